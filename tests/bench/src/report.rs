//! Figures: as a table for people, as JSON for later comparison.

use crate::{noise::LOUD, samples::Samples};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};

/// All figures of a run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// Where they were taken.
    pub machine: String,
    /// In the order of measurement.
    pub figures: Vec<Figure>,
}

/// One figure.
#[derive(Debug, Serialize, Deserialize)]
pub struct Figure {
    /// Heading that it stands under.
    pub group: String,
    /// What was measured; unique in its group.
    pub name: String,
    /// Of the figures.
    pub unit: String,
    /// Of the samples.
    pub median: f64,
    /// Of the samples.
    pub min: f64,
    /// Of the samples.
    pub max: f64,
    /// In the order in which they were taken.
    pub samples: Vec<f64>,
    /// The most CPU time that others used during a sample, cores.
    pub foreign: f64,
    /// What it should be.
    pub target: Option<Target>,
    /// More to say.
    pub note: String,
}

/// A bound on the median.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Target {
    /// Not more than that.
    AtMost(f64),
    /// Not less than that.
    AtLeast(f64),
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }
    fn describe(self) -> String {
        match self {
            Self::AtMost(bound) => format!("<= {}", number(bound)),
            Self::AtLeast(bound) => format!(">= {}", number(bound)),
        }
    }
}

impl Figure {
    /// A figure of some samples.
    pub fn new(group: &str, name: impl Into<String>, unit: &str, samples: &Samples) -> Self {
        Self {
            group: group.to_owned(),
            name: name.into(),
            unit: unit.to_owned(),
            median: samples.median(),
            min: samples.min(),
            max: samples.max(),
            samples: samples.values().to_vec(),
            foreign: 0.0,
            target: None,
            note: String::new(),
        }
    }
    /// With the foreign CPU use during its samples.
    pub fn foreign(mut self, cores: f64) -> Self {
        self.foreign = cores;
        self
    }
    /// With a bound.
    pub fn target(mut self, target: Option<Target>) -> Self {
        self.target = target;
        self
    }
    /// With more to say.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn line(&self, earlier: Option<&Report>) -> String {
        let tick = match self.target {
            Some(target) if target.is_met(self.median) => "✓",
            Some(_) => "✗",
            None => " ",
        };
        let mut line = format!(
            "{tick} {:68} {:>8} {:6} [{} .. {}]",
            self.name,
            number(self.median),
            self.unit,
            number(self.min),
            number(self.max)
        );
        if let Some(target) = self.target {
            line += &format!("  target {}", target.describe());
        }
        if let Some(old) = earlier.and_then(|report| report.find(self)) {
            line += &format!("  was {} ({:+.1} %)", number(old.median), (self.median / old.median - 1.0) * 100.0);
        }
        if !self.note.is_empty() {
            line += &format!("  {}", self.note);
        }
        if self.foreign > LOUD {
            line += &format!("  ! others used {:.2} cores", self.foreign);
        }
        line
    }
}

impl Report {
    /// Nothing yet.
    pub fn new(machine: String) -> Self {
        Self { machine, figures: Vec::new() }
    }

    /// Takes a figure, and shows it at once: a run takes minutes.
    pub fn add(&mut self, figure: Figure) {
        eprintln!("{}: {}", figure.group, figure.line(None).trim());
        self.figures.push(figure);
    }

    /// The ratio of two figures that were measured one after the other: (group, name) each.
    ///
    /// # Errors
    /// There is no such figure.
    pub fn ratio(&mut self, group: &str, name: &str, of: [(&str, &str); 2], target: Option<f64>) -> Result<()> {
        let find = |(group, name): (&str, &str)| {
            let found = self.figures.iter().find(|figure| figure.group == group && figure.name == name);
            found.with_context(|| format!("no figure {name} in {group}"))
        };
        let (above, below) = (find(of[0])?, find(of[1])?);
        let mut samples = Samples::default();
        above.samples.iter().zip(&below.samples).for_each(|(above, below)| samples.push(above / below));
        let foreign = above.foreign.max(below.foreign);
        let figure = Figure::new(group, name, "x", &samples).foreign(foreign);
        self.add(figure.target(target.map(Target::AtMost)));
        Ok(())
    }

    /// Prints the table.
    pub fn print(&self, earlier: Option<&Self>) {
        println!("\n{}", self.machine);
        let mut group = "";
        for figure in &self.figures {
            if figure.group != group {
                group = &figure.group;
                println!("\n{group}");
            }
            println!("{}", figure.line(earlier));
        }
        let bounds: Vec<_> = self.figures.iter().filter_map(|f| Some(f.target?.is_met(f.median))).collect();
        println!("\n{} of {} targets reached", bounds.iter().filter(|met| **met).count(), bounds.len());
        if self.figures.iter().any(|figure| figure.foreign > LOUD) {
            println!("Others used this machine meanwhile: these figures are preliminary.");
        }
    }

    /// Reads an earlier report.
    ///
    /// # Errors
    /// The file cannot be read, or is not one.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no report", path.display()))
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("write JSON")?;
        fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
    }

    fn find(&self, like: &Figure) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.group == like.group && figure.name == like.name)
    }
}

/// With as many digits as say something.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Target, number};

    #[test]
    fn bounds_include_themselves() {
        assert!(Target::AtMost(130.0).is_met(130.0) && !Target::AtMost(130.0).is_met(130.1));
        assert!(Target::AtLeast(2.0).is_met(2.0) && !Target::AtLeast(2.0).is_met(1.9));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([number(1_234.5), number(12.34), number(1.234)], ["1234", "12.3", "1.23"]);
    }
}
