//! Events of list items that are written plainly, at ten times the speed of the YAML parser.
//!
//! What programs write by the million is a small part of YAML: each item one flow mapping, or one `key: value` a line;
//! words, and quotes without escapes. Of that this makes exactly the parser's events, spans and all, and it declines
//! everything else: then the parser reads the text. A property test compares the two.

use crate::diagnostics::Span;
use granit_parser::{Event, ScalarStyle, StructureStyle};
use std::borrow::Cow;

/// The text is not written plainly, or not well: that is for the parser to say.
#[derive(Debug)]
pub(super) struct Declined;

/// A scalar may be a key, whose length YAML limits to 1,024 characters.
const SCALAR_MAX: usize = 512;
/// How deep flow collections nest in the vocabulary, and room.
const DEPTH_MAX: usize = 8;

/// Events of the items of a block sequence, without those of the sequence itself.
pub(super) struct Plain<'a> {
    text: &'a str,
    at: usize,
    /// Where the text begins in the file.
    offset: u32,
    /// Column of the items' hyphens, which the first one decides.
    indent: Option<usize>,
    /// Column of the keys of the block mapping that is being read.
    keys: Option<usize>,
    /// Flow collections that are open.
    open: Vec<Collection>,
    expected: Expected,
}

/// What a flow collection is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Collection {
    Sequence,
    Mapping,
}

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// A line: an item, a key of a block mapping, or the end.
    Line,
    /// A key of the block mapping, at its first character.
    Key,
    /// The value of a key.
    Value,
    /// The first thing in a flow collection, which may be its end.
    First,
    /// One more thing in it.
    Further,
    /// A comma or the end.
    Separator,
}

impl<'a> Plain<'a> {
    /// Whole items, and whole lines between them.
    pub(super) fn new(text: &'a str, offset: u32) -> Self {
        Self { text, at: 0, offset, indent: None, keys: None, open: Vec::new(), expected: Expected::Line }
    }

    pub(super) fn next(&mut self) -> Result<(Event<'a>, Span), Declined> {
        loop {
            match self.expected {
                Expected::Line => {
                    if let Some(event) = self.line()? {
                        return Ok(event);
                    }
                }
                Expected::Key => return self.key(),
                Expected::Value => return self.value(),
                Expected::First | Expected::Further => {
                    self.pass_space()?;
                    if self.expected == Expected::First
                        && let Some(end) = self.end()?
                    {
                        return Ok(end);
                    }
                    return match self.open.last() {
                        Some(Collection::Mapping) => self.key(),
                        _ => self.value(),
                    };
                }
                Expected::Separator => {
                    self.pass_blanks();
                    if let Some(end) = self.end()? {
                        return Ok(end);
                    }
                    self.take(b',')?;
                    self.expected = Expected::Further;
                }
            }
        }
    }

    /// At the start of a line: what begins or ends there.
    fn line(&mut self) -> Result<Option<(Event<'a>, Span)>, Declined> {
        let start = self.at;
        self.pass_blanks();
        let column = self.at - start;
        match self.peek() {
            Some(b'\n') => {
                self.at += 1;
                return Ok(None);
            }
            Some(b'#') => {
                self.comment()?;
                return Ok(None);
            }
            Some(_) if self.keys == Some(column) => {
                self.expected = Expected::Key;
                return Ok(None);
            }
            None if column > 0 => return Err(Declined),
            _ => {}
        }
        if self.keys.take().is_some() {
            self.at = start;
            return Ok(Some((Event::MappingEnd, self.span(start, start))));
        }
        if self.peek().is_none() {
            return Ok(Some((Event::StreamEnd, self.span(start, start))));
        }
        if column != *self.indent.get_or_insert(column) {
            return Err(Declined);
        }
        self.take(b'-')?;
        self.take(b' ')?;
        self.pass_blanks();
        if self.peek() == Some(b'{') {
            return self.value().map(Some);
        }
        self.keys = Some(self.at - start);
        self.expected = Expected::Key;
        Ok(Some((Event::MappingStart(StructureStyle::Block, 0, None), self.span(self.at, self.at))))
    }

    /// A key with its colon and the blanks behind.
    fn key(&mut self) -> Result<(Event<'a>, Span), Declined> {
        let key = self.scalar()?;
        self.take(b':')?;
        self.take(b' ')?;
        self.pass_blanks();
        self.expected = Expected::Value;
        Ok(key)
    }

    fn value(&mut self) -> Result<(Event<'a>, Span), Declined> {
        let (kind, event) = match self.peek() {
            Some(b'[') => (Collection::Sequence, Event::SequenceStart(StructureStyle::Flow, 0, None)),
            Some(b'{') => (Collection::Mapping, Event::MappingStart(StructureStyle::Flow, 0, None)),
            _ => {
                let scalar = self.scalar()?;
                self.after_value()?;
                return Ok(scalar);
            }
        };
        if self.open.len() == DEPTH_MAX {
            return Err(Declined);
        }
        self.open.push(kind);
        self.at += 1;
        self.expected = Expected::First;
        Ok((event, self.span(self.at - 1, self.at)))
    }

    /// The end of the innermost flow collection, if it is here.
    fn end(&mut self) -> Result<Option<(Event<'a>, Span)>, Declined> {
        let event = match (self.peek(), self.open.last()) {
            (Some(b']'), Some(Collection::Sequence)) => Event::SequenceEnd,
            (Some(b'}'), Some(Collection::Mapping)) => Event::MappingEnd,
            _ => return Ok(None),
        };
        self.open.pop();
        self.at += 1;
        let span = self.span(self.at - 1, self.at);
        self.after_value()?;
        Ok(Some((event, span)))
    }

    /// Behind a value: the rest of the line, unless a flow collection goes on.
    fn after_value(&mut self) -> Result<(), Declined> {
        if !self.open.is_empty() {
            self.expected = Expected::Separator;
            return Ok(());
        }
        self.expected = Expected::Line;
        let end = self.at;
        self.pass_blanks();
        match self.peek() {
            None => Ok(()),
            Some(b'\n') => {
                self.at += 1;
                Ok(())
            }
            Some(b'#') if self.at > end => self.comment(),
            Some(_) => Err(Declined),
        }
    }

    fn scalar(&mut self) -> Result<(Event<'a>, Span), Declined> {
        let start = self.at;
        let rest = &self.text.as_bytes()[start..];
        let rest = &rest[..rest.len().min(SCALAR_MAX)];
        let (style, quotes, length) = match rest.first() {
            Some(b'"') => (ScalarStyle::DoubleQuoted, 1, quoted(&rest[1..], b'"')?),
            Some(b'\'') => (ScalarStyle::SingleQuoted, 1, quoted(&rest[1..], b'\'')?),
            _ => (ScalarStyle::Plain, 0, word(rest)?),
        };
        self.at = start + length + 2 * quotes;
        let text = &self.text[start + quotes..start + quotes + length];
        Ok((Event::Scalar(Cow::Borrowed(text), style, 0, None), self.span(start, self.at)))
    }

    /// Passes over a comment and the end of its line.
    fn comment(&mut self) -> Result<(), Declined> {
        let rest = &self.text.as_bytes()[self.at..];
        let length = rest.iter().position(|byte| !is_printable(*byte)).unwrap_or(rest.len());
        self.at += length;
        match self.peek() {
            None => Ok(()),
            Some(b'\n') => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(Declined),
        }
    }

    /// Inside a flow collection: blanks, and line ends where what follows is indented more than the item.
    fn pass_space(&mut self) -> Result<(), Declined> {
        self.pass_blanks();
        while self.peek() == Some(b'\n') {
            self.at += 1;
            let start = self.at;
            self.pass_blanks();
            if self.at - start <= self.keys.or(self.indent).unwrap_or_default() {
                return Err(Declined);
            }
        }
        Ok(())
    }

    fn pass_blanks(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| **byte == b' ').count();
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Result<(), Declined> {
        if self.peek() != Some(byte) {
            return Err(Declined);
        }
        self.at += 1;
        Ok(())
    }

    fn span(&self, start: usize, end: usize) -> Span {
        Span { start: self.offset + start as u32, end: self.offset + end as u32 }
    }
}

/// What words are made of, besides colons.
const IN_WORDS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'_' | b'-' | b'.' | b'/' | b'+');
        byte += 1;
    }
    table
};

/// ASCII without control characters.
fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

/// Length of what is quoted, from behind the quote.
fn quoted(rest: &[u8], quote: u8) -> Result<usize, Declined> {
    let length = rest.iter().position(|byte| *byte == quote || *byte == b'\\' || !is_printable(*byte));
    match length {
        // Two single quotes are one that is meant.
        Some(length) if rest[length] == quote && rest.get(length + 1) != Some(&quote) => Ok(length),
        _ => Err(Declined),
    }
}

/// Length of a word: letters, digits and a few signs; colons inside only.
fn word(rest: &[u8]) -> Result<usize, Declined> {
    let inner = |byte: &u8| IN_WORDS[usize::from(*byte)];
    let mut length = 0;
    loop {
        length += rest[length..].iter().take_while(|byte| inner(byte)).count();
        let colons = rest[length..].iter().take_while(|byte| **byte == b':').count();
        if colons == 0 || !rest.get(length + colons).is_some_and(inner) {
            break;
        }
        length += colons;
    }
    let first = rest.first().is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'/');
    if first && length < SCALAR_MAX { Ok(length) } else { Err(Declined) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use granit_parser::{Options, Parser};
    use proptest::{collection::vec, prelude::*, sample::select};

    /// What is made of a text, without where block mappings end: nothing is there.
    fn plainly(text: &str) -> Option<Vec<(Event<'_>, Span)>> {
        let mut plain = Plain::new(text, 0);
        let mut events = Vec::new();
        loop {
            match plain.next() {
                Ok((Event::StreamEnd, _)) => return Some(events),
                Ok(event) => events.push(event),
                Err(Declined) => return None,
            }
        }
    }

    /// The parser's events of the items of a list. `None`: it is no YAML, or no list.
    fn by_parser(text: &str) -> Option<Vec<(Event<'_>, Span)>> {
        let mut options = Options::default();
        options.set_emit_comments(false);
        let events = Parser::new_from_str_with_options(text, options).map(|event| {
            let (event, span) = event.ok()?;
            let bytes = span.byte_range()?;
            Some((event, Span { start: bytes.start as u32, end: bytes.end as u32 }))
        });
        let events = events.collect::<Option<Vec<_>>>()?;
        match events.as_slice() {
            [
                (Event::StreamStart, _),
                (Event::DocumentStart(false, None), _),
                (Event::SequenceStart(StructureStyle::Block, 0, None), _),
                items @ ..,
                (Event::SequenceEnd, _),
                (Event::DocumentEnd, _),
                (Event::StreamEnd, _),
            ] => Some(items.to_vec()),
            // Nothing but comments.
            [(Event::StreamStart, _), (Event::StreamEnd, _)] => Some(Vec::new()),
            _ => None,
        }
    }

    fn without_empty(events: Vec<(Event<'_>, Span)>) -> Vec<(Event<'_>, Option<Span>)> {
        events
            .into_iter()
            .map(|(event, span)| match event {
                Event::MappingEnd if span.start == span.end => (event, None),
                event => (event, Some(span)),
            })
            .collect()
    }

    const PIECES: [&str; 46] = [
        "  - {",
        "- ",
        "  - ",
        "\n  - {name: a, ips: [10.0.0.1, \"fd00::1\"]}",
        "\n  - name: a",
        "\n    b: [c, d]",
        "\n    b: {c: d}",
        "\n",
        "  ",
        " ",
        "    ",
        "}",
        "]",
        "{",
        "[",
        "\"",
        "'",
        "''",
        "\\",
        "a",
        "10.0.0.1/8",
        "02:00:5e",
        ": ",
        ":",
        ", ",
        ",",
        "#",
        " # why",
        "-",
        "--- ",
        "...",
        "!",
        "&a ",
        "*a",
        "? ",
        "|",
        ">",
        "%",
        "@",
        "é",
        "\t",
        "\r",
        "\u{7f}",
        "~",
        "null: ",
        "\n  - {a: b,\n     c: d}",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20_000) })]

        #[test]
        fn what_is_not_declined_is_what_the_parser_reads(
            pieces in vec(select(PIECES.to_vec()), 0..14),
            plain in any::<bool>(),
        ) {
            let text = format!("{}{}", if plain { "  - {a: b}\n" } else { "" }, pieces.concat());
            if let Some(events) = plainly(&text) {
                prop_assert_eq!(Some(without_empty(events)), by_parser(&text).map(without_empty), "{:?}", text);
            }
        }
    }

    /// What scalars are made of, and what is no scalar any more.
    const SIGNS: [&str; 32] = [
        "a", "1", "a1", ":", "::", "#", " #", "\"", "'", "''", "\\", "\\\"", "-", ".", "/", "+", "~", " ", "{", "}",
        "[", "]", ",", "&", "*", "!", "|", "%", "@", "é", "\t", "\n",
    ];

    /// A scalar, in quotes or without.
    fn scalar() -> impl Strategy<Value = String> {
        (select(vec!["", "", "\"", "'"]), vec(select(SIGNS.to_vec()), 1..4))
            .prop_map(|(quote, signs)| format!("{quote}{}{quote}", signs.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20_000) })]

        /// The same with scalars where they belong, so that most of what is tried is well-formed otherwise.
        #[test]
        fn scalars_that_are_not_declined_are_what_the_parser_reads(
            form in select(vec!["  - {K: V, l: [V, W]}\n", "  - K: V\n    l: [W]\n", "  - a: b\n    K: W # V\n  - c: V\n"]),
            (key, one, other) in (prop_oneof![Just("k".to_owned()), scalar()], scalar(), scalar()),
        ) {
            let text = form.replace('K', &key).replace('V', &one).replace('W', &other);
            if let Some(events) = plainly(&text) {
                prop_assert_eq!(Some(without_empty(events)), by_parser(&text).map(without_empty), "{:?}", text);
            }
        }
    }

    #[test]
    fn what_programs_write_is_plain() {
        let flow = "\n  # ports\n  - {name: p-1, mac: \"02:00:00:00:00:01\", private_ips: [10.0.0.1, 'fd00::1'], x: []} # one\n";
        let wrapped = "  - {name: p-2,\n     labels: {tier: web, env: 1}}\n\n";
        let block = "  - name: p-3\n    mac: 02:00:00:00:00:03   # three\n\n    private_ips: [10.0.0.3]\n  -   a: b\n      c: {}\n";
        let text = [flow, wrapped, block].concat();
        let events = plainly(&text).map(without_empty);
        assert!(events.as_ref().is_some_and(|events| events.len() > 40));
        assert_eq!(events, by_parser(&text).map(without_empty));
    }
}
