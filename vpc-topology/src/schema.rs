//! The JSON Schema of topology files, for editors.

use crate::{document::Field, model::File};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};

/// The schema as JSON text, with a line break at its end.
pub fn json() -> String {
    let schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<File>();
    format!("{:#}\n", schema.as_value())
}

/// Properties of one record's schema.
#[derive(Default)]
pub(crate) struct Properties {
    properties: serde_json::Map<String, serde_json::Value>,
    required: Vec<serde_json::Value>,
}

impl Properties {
    pub(crate) fn field<T: Field + JsonSchema>(&mut self, generator: &mut SchemaGenerator, name: &str, doc: &str) {
        let mut schema = generator.subschema_for::<T>();
        // Draft 7 ignores what stands beside a `$ref`.
        if schema.get("$ref").is_some() {
            schema = schemars::json_schema!({"allOf": [schema]});
        }
        schema.insert("description".into(), prose(doc).into());
        self.properties.insert(name.into(), schema.to_value());
        if T::REQUIRED {
            self.required.push(name.into());
        }
    }

    /// A second name of a field.
    pub(crate) fn alias(&mut self, field: &str, alias: &str) {
        if let Some(schema) = self.properties.get(field).cloned() {
            self.properties.insert(alias.into(), schema);
        }
    }

    pub(crate) fn into_schema(self, doc: &str) -> Schema {
        schemars::json_schema!({
            "type": "object",
            "description": prose(doc),
            "properties": self.properties,
            "required": self.required,
            "additionalProperties": false,
        })
    }
}

/// A doc comment as one paragraph.
fn prose(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}
