//! Figures as they are printed and written. It must never round what it writes to the file.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value, json};

/// The values of one figure, one a round.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds a round's.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle one; the upper of two. 0 of none.
    pub fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }

    /// The least. 0 of none.
    pub fn minimum(&self) -> f64 {
        self.0.first().copied().unwrap_or_default()
    }
}

struct Line {
    what: String,
    unit: &'static str,
    median: f64,
    minimum: Option<f64>,
    rounds: usize,
}

/// All figures of a run.
pub struct Report {
    short: bool,
    lines: Vec<Line>,
    figures: Map<String, Value>,
}

impl Report {
    /// An empty one.
    pub fn new(short: bool) -> Self {
        Self { short, lines: Vec::new(), figures: Map::new() }
    }

    /// A figure of several rounds: `name` is its median, `name_min` its minimum.
    pub fn samples(&mut self, name: &str, what: &str, unit: &'static str, samples: &Samples) {
        self.figures.insert(name.to_owned(), json!(samples.median()));
        self.figures.insert(format!("{name}_min"), json!(samples.minimum()));
        self.lines.push(Line {
            what: what.to_owned(),
            unit,
            median: samples.median(),
            minimum: Some(samples.minimum()),
            rounds: samples.0.len(),
        });
    }

    /// A figure that there is once.
    pub fn value(&mut self, name: &str, what: &str, unit: &'static str, value: f64) {
        self.figures.insert(name.to_owned(), json!(value));
        self.lines.push(Line { what: what.to_owned(), unit, median: value, minimum: None, rounds: 1 });
    }

    /// How many times as much another one takes: of the medians and of the minima.
    pub fn ratio(&mut self, name: &str, what: &str, median: f64, minimum: f64) {
        self.figures.insert(name.to_owned(), json!(median));
        self.figures.insert(format!("{name}_min"), json!(minimum));
        self.lines.push(Line { what: what.to_owned(), unit: "×", median, minimum: Some(minimum), rounds: 1 });
    }

    /// A figure of the file alone.
    pub fn only_in_file(&mut self, name: &str, value: Value) {
        self.figures.insert(name.to_owned(), value);
    }

    /// The sizes of what is deployed.
    pub fn zips(&mut self, folder: &Path) -> anyhow::Result<()> {
        for function in ["ingest", "merge"] {
            let path = folder.join(format!("{function}.zip"));
            let bytes = std::fs::metadata(&path).with_context(|| path.display().to_string())?.len();
            self.value(&format!("zip_bytes_{function}"), &format!("{function}.zip"), "bytes", bytes as f64);
        }
        Ok(())
    }

    /// Prints the table, in Markdown, and writes the file.
    pub fn finish(&mut self, path: &Path) -> anyhow::Result<()> {
        let machine = machine()?;
        println!("\n{machine}\n");
        println!("| | median | minimum | | rounds |\n|---|---:|---:|---|---:|");
        for Line { what, unit, median, minimum, rounds } in &self.lines {
            let minimum = minimum.map(shown).unwrap_or_default();
            println!("| {what} | {} | {minimum} | {unit} | {rounds} |", shown(*median));
        }
        self.figures.insert("machine".to_owned(), json!(machine));
        self.figures.insert("short".to_owned(), json!(self.short));
        let sorted: BTreeMap<&String, &Value> = self.figures.iter().collect();
        std::fs::write(path, serde_json::to_string_pretty(&sorted)? + "\n")?;
        println!("\n{}", path.display());
        Ok(())
    }
}

fn shown(figure: f64) -> String {
    if figure.abs() >= 100.0 {
        let digits = format!("{figure:.0}");
        let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |digits| ("-", digits));
        let mut grouped = String::new();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place) % 3 == 0 {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        return format!("{sign}{grouped}");
    }
    format!("{figure:.1}")
}

/// When, and on what.
fn machine() -> anyhow::Result<String> {
    let processors = std::fs::read_to_string("/proc/cpuinfo")?;
    let model =
        processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let cores = std::thread::available_parallelism()?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default();
    let day = jiff::Timestamp::now().strftime("%Y-%m-%d");
    Ok(format!("{day}, {}, {cores} cores, load {load} at the end", model.unwrap_or("unknown processor").trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_the_minimum_the_least() {
        let mut samples = Samples::default();
        for value in [5.0, 1.0, 9.0] {
            samples.push(value);
        }
        assert_eq!((samples.median(), samples.minimum()), (5.0, 1.0));
    }

    #[test]
    fn large_figures_are_grouped_and_small_ones_keep_a_digit() {
        assert_eq!([4.25, 99.96, 100.0, 12345.6].map(shown), ["4.2", "100.0", "100", "12,346"]);
    }
}
