//! Counters and gauges by name, as monitoring reads them: JSON, or the text of Prometheus.

use std::{collections::BTreeMap, fmt::Write};

use serde::{Deserialize, Serialize};

use super::{Loss, Snapshot};

/// One value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// What is counted; a counter's name ends in `_total`.
    pub name: String,
    /// What distinguishes it from others of its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: u64,
}

impl Sample {
    /// Without labels.
    pub fn new(name: &str, value: u64) -> Self {
        Self { name: name.into(), labels: BTreeMap::new(), value }
    }

    /// With one more label.
    #[must_use]
    pub fn label(mut self, name: &str, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }
}

impl Snapshot {
    /// Everything counted.
    pub fn samples(&self) -> Vec<Sample> {
        let mut all = vec![
            Sample::new("connections_total", self.connections),
            Sample::new("connections_open", self.connections_open),
            Sample::new("version_negotiations_total", self.version_negotiations),
            Sample::new("tunnels_total", self.tunnels),
            Sample::new("tunnels_open", self.tunnels_open),
        ];
        for (way, name) in ["out", "back"].into_iter().enumerate() {
            all.push(Sample::new("udp_packets_total", self.packets[way]).label("way", name));
            all.push(Sample::new("udp_bytes_total", self.bytes[way]).label("way", name));
            all.push(Sample::new("tcp_bytes_total", self.tcp_bytes[way]).label("way", name));
            for loss in Loss::ALL {
                let lost = self.dropped[way][loss as usize];
                all.push(Sample::new("udp_dropped_total", lost).label("way", name).label("why", loss.name()));
            }
        }
        all.extend(self.refused.iter().map(|(status, count)| Sample::new("refused_total", *count).label("status", status.to_string())));
        all.extend(self.ended.iter().map(|(why, count)| Sample::new("ended_total", *count).label("why", *why)));
        all.extend(self.quirks.iter().map(|(name, count)| Sample::new("quirks_total", *count).label("name", *name)));
        all
    }
}

/// As Prometheus reads it: names in groups, each with its type.
pub fn prometheus(samples: &[Sample]) -> String {
    let mut groups: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        groups.entry(&sample.name).or_default().push(sample);
    }
    let mut text = String::new();
    for (name, samples) in groups {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        writeln!(text, "# TYPE masque_relay_{name} {kind}").expect("a String takes everything");
        for sample in samples {
            // No label's value has anything that would have to be escaped: they are words of ours and numbers.
            let labels: Vec<_> = sample.labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            writeln!(text, "masque_relay_{name}{labels} {}", sample.value).expect("a String takes everything");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_in_groups_with_their_types() {
        let mut snapshot = Snapshot { connections: 3, connections_open: 1, ..Snapshot::default() };
        snapshot.packets = [5, 6];
        snapshot.dropped[1][Loss::Unread as usize] = 7;
        snapshot.refused.insert(407, 2);
        let text = prometheus(&snapshot.samples());
        for line in [
            "# TYPE masque_relay_connections_open gauge\nmasque_relay_connections_open 1\n",
            "# TYPE masque_relay_connections_total counter\nmasque_relay_connections_total 3\n",
            "masque_relay_udp_packets_total{way=\"out\"} 5\nmasque_relay_udp_packets_total{way=\"back\"} 6\n",
            "masque_relay_udp_dropped_total{way=\"back\",why=\"unread\"} 7\n",
            "masque_relay_refused_total{status=\"407\"} 2\n",
        ] {
            assert!(text.contains(line), "{line}\nnot in\n{text}");
        }
        assert_eq!(text.matches("# TYPE").count(), 10, "{text}");
        assert!(Loss::ALL.iter().enumerate().all(|(at, loss)| *loss as usize == at));
    }
}
