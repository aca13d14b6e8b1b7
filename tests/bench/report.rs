//! The table, and the same as JSON.

use std::{collections::HashMap, fmt::Write, fs, path::Path};

use serde_json::{Value, json};

use crate::{
    Failure,
    meter::Figure,
    rows::{Limit, Row, Unit},
};

/// Everything measured, row by row.
pub(crate) struct Report {
    rows: Vec<(&'static Row, Vec<Result<Figure, String>>)>,
    /// Medians of the run that `--against` names.
    rival: HashMap<String, f64>,
    /// What the rival needed that is measured beside.
    beside: HashMap<&'static str, Vec<Result<Figure, String>>>,
    /// Figures that mean nothing are not judged.
    quick: bool,
}

/// What a row's runs come to.
struct Median<'a> {
    /// The run in the middle.
    figure: &'a Figure,
    /// The spread.
    least: f64,
    most: f64,
}

impl Report {
    pub(crate) fn new(rows: &[&'static Row], against: Option<&Path>, quick: bool) -> Result<Self, Failure> {
        let mut rival = HashMap::new();
        if let Some(path) = against {
            let text = fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            let value: Value = serde_json::from_slice(&text)?;
            for row in value["rows"].as_array().ok_or("no `rows` in the file of `--against`")? {
                if let (Some(name), Some(median)) = (row["name"].as_str(), row["median"].as_f64()) {
                    rival.insert(name.to_owned(), median);
                }
            }
        }
        Ok(Self { rows: rows.iter().map(|row| (*row, Vec::new())).collect(), rival, beside: HashMap::new(), quick })
    }

    /// Adds a run; scales it to the row's unit.
    pub(crate) fn add(&mut self, name: &str, run: Result<Figure, Failure>) {
        let Some((row, runs)) = self.rows.iter_mut().find(|(row, _)| row.name == name) else { return };
        runs.push(scaled(row, run));
    }

    /// Adds a run of the rival's. One that fails is told, and is no failure of this bench.
    pub(crate) fn add_rival(&mut self, name: &str, run: Result<Figure, Failure>) {
        let Some((row, _)) = self.rows.iter().find(|(row, _)| row.name == name) else { return };
        self.beside.entry(row.name).or_default().push(scaled(row, run));
    }

    /// The rival's median, in the row's unit.
    fn rival(&self, row: &Row) -> Option<f64> {
        let beside = self.beside.get(row.name).and_then(|runs| Some(median(runs)?.figure.cost));
        beside.or_else(|| self.rival.get(row.name).copied())
    }

    /// What failed, with its row.
    pub(crate) fn failures(&self) -> Vec<String> {
        let failed = |(row, runs): &(&Row, Vec<Result<Figure, String>>)| {
            let error = runs.iter().find_map(|run| run.as_ref().err())?;
            Some(format!("{}: {error}", row.name))
        };
        self.rows.iter().filter_map(failed).collect()
    }

    pub(crate) fn table(&self) -> String {
        let mut table = format!(
            "{:<41} {:>9} {:<9} {:>15} {:>5} {:>7} {:>7} {:>19} {:>8}  {:>18} {:>7} {:>13} {:>5} {:>6}\n",
            "",
            "median",
            "unit",
            "least – most",
            "user",
            "× floor",
            "× rival",
            "bound (goal)",
            "",
            "rate",
            "loss",
            "p50 / p99 µs",
            "load",
            "waited"
        );
        for (row, runs) in &self.rows {
            let Some(median) = median(runs) else {
                writeln!(table, "{:<41} {:>9}", row.name, "failed").expect("a String takes all");
                continue;
            };
            let Median { figure, least, most } = median;
            let ratio = |ratio: Option<f64>| ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let share = |share: Option<f64>, digits| share.map_or_else(String::new, |share| format!("{:.digits$} %", share * 100.0));
            writeln!(
                table,
                "{:<41} {:>9} {:<9} {:>15} {:>5} {:>7} {:>7} {:>19} {:>8}  {:>18} {:>7} {:>13} {:>5} {:>6}",
                row.name,
                number(figure.cost),
                row.unit.name(),
                if runs.len() > 1 { format!("{} – {}", number(least), number(most)) } else { String::new() },
                share(figure.user, 0),
                ratio(self.floor(row).map(|floor| figure.cost / floor)),
                ratio(self.rival(row).map(|rival| figure.cost / rival)),
                limits(row),
                self.judgement(row, figure.cost),
                figure.rate.map_or_else(String::new, |rate| format!("{} {}", number(rate), row.unit.rate())),
                share(figure.loss, 2),
                figure.p50.zip(figure.p99).map_or_else(String::new, |(p50, p99)| format!("{p50:.0} / {p99:.0}")),
                share(figure.load, 0),
                share(figure.waited, 0),
            )
            .expect("a String takes all");
        }
        table
    }

    /// Without what only whoever measures wants to know.
    pub(crate) fn markdown(&self) -> String {
        let mut table = "| | measured | bound (goal) | × floor | rival |\n| --- | --- | --- | --- | --- |\n".to_owned();
        for (row, runs) in &self.rows {
            let Some(Median { figure, least, most }) = median(runs) else { continue };
            let loss = figure
                .loss
                .filter(|loss| row.unit == Unit::Packet && *loss >= 0.00005)
                .map_or_else(String::new, |loss| format!("; lost {:.2} %", loss * 100.0));
            let trip = match (row.unit, figure.p50.zip(figure.p99)) {
                (Unit::Packet, Some((trip, _))) => format!("; round trip {trip:.0} µs"),
                (Unit::Share, Some((half, most))) => format!("; p50 {:.0} ms, p99 {:.0} ms", half / 1e3, most / 1e3),
                _ => String::new(),
            };
            let floor = self.floor(row).map_or_else(|| "–".into(), |floor| format!("{:.2}", figure.cost / floor));
            let limits = Some(limits(row)).filter(|limits| !limits.is_empty()).unwrap_or_else(|| "–".into());
            let rival = self.rival(row).map_or_else(|| "–".into(), |rival| format!("{} ({:.2} ×)", number(rival), figure.cost / rival));
            let spread = if runs.len() > 1 { format!(" ({} – {})", number(least), number(most)) } else { String::new() };
            writeln!(
                table,
                "| {} | {}{spread} {}{trip}{loss} | {limits} | {floor} | {rival} |",
                row.name,
                number(figure.cost),
                row.unit.name()
            )
            .expect("a String takes all");
        }
        table
    }

    pub(crate) fn json(&self, relay: &str) -> String {
        let rows = self.rows.iter().map(|(row, runs)| {
            let median = median(runs);
            json!({
                "name": row.name,
                "unit": row.unit.name(),
                "bound": limit(row.bound),
                "goal": limit(row.goal),
                "median": median.as_ref().map(|median| median.figure.cost),
                "least": median.as_ref().map(|median| median.least),
                "most": median.as_ref().map(|median| median.most),
                "times_floor": median.as_ref().and_then(|median| Some(median.figure.cost / self.floor(row)?)),
                "times_rival": median.as_ref().and_then(|median| Some(median.figure.cost / self.rival(row)?)),
                "rival": self.rival(row),
                "runs": runs.iter().flatten().collect::<Vec<_>>(),
                "failures": runs.iter().filter_map(|run| run.as_ref().err()).collect::<Vec<_>>(),
            })
        });
        format!("{:#}\n", json!({ "relay": relay, "quick": self.quick, "rows": rows.collect::<Vec<_>>() }))
    }

    /// The mean of the row's floors.
    fn floor(&self, row: &Row) -> Option<f64> {
        let cost = |name: &&str| Some(median(&self.rows.iter().find(|(row, _)| row.name == *name)?.1)?.figure.cost);
        let costs: Option<Vec<f64>> = row.floor.iter().map(cost).collect();
        costs.filter(|costs| !costs.is_empty()).map(|costs| costs.iter().sum::<f64>() / costs.len() as f64)
    }

    /// Against bound and goal, as far as they are known.
    fn judgement(&self, row: &Row, cost: f64) -> &'static str {
        let known = |limit| match limit {
            _ if self.quick => None,
            Limit::None => None,
            Limit::At(limit) => Some(limit),
            Limit::Times(times) => self.rival(row).map(|rival| rival * times),
        };
        match (known(row.bound), known(row.goal)) {
            (_, Some(goal)) if cost <= goal => "goal",
            (Some(bound), _) if cost <= bound => "ok",
            (Some(_), _) => "TOO MUCH",
            (None, _) => "",
        }
    }
}

/// A run in its row's unit.
fn scaled(row: &Row, run: Result<Figure, Failure>) -> Result<Figure, String> {
    run.map(|figure| Figure { cost: figure.cost * row.unit.scale(), ..figure }).map_err(|error| error.to_string())
}

fn median(runs: &[Result<Figure, String>]) -> Option<Median<'_>> {
    let mut figures: Vec<_> = runs.iter().flatten().collect();
    figures.sort_by(|one, other| one.cost.total_cmp(&other.cost));
    let (least, most) = (figures.first()?.cost, figures.last()?.cost);
    Some(Median { figure: figures[figures.len() / 2], least, most })
}

fn limits(row: &Row) -> String {
    match (row.bound, row.goal) {
        (Limit::At(bound), Limit::At(goal)) => format!("{bound} ({goal})"),
        (Limit::Times(bound), Limit::Times(goal)) => format!("{bound} × ({goal} ×) rival"),
        _ => String::new(),
    }
}

fn limit(limit: Limit) -> Value {
    match limit {
        Limit::None => Value::Null,
        Limit::At(limit) => json!(limit),
        Limit::Times(times) => json!({ "times_rival": times }),
    }
}

/// Three digits that mean something.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// One run, as it comes.
pub(crate) fn line(unit: Unit, run: &Result<Figure, Failure>) -> String {
    match run {
        Ok(figure) => format!("{} {}", number(figure.cost * unit.scale()), unit.name()),
        Err(error) => format!("failed: {error}"),
    }
}
