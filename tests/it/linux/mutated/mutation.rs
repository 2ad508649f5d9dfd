//! Random MCP messages, valid and broken in many ways. A seed makes a run reproducible.

use proptest::prelude::RngExt;
use proptest::test_runner::{RngAlgorithm, TestRng};
use serde_json::{Map, Value, json};

use crate::support::modern::with_envelope;

/// Placeholders for JSON that serde would not write; replaced after serialization.
const RAW: [(&str, &str); 6] = [
    ("@huge", "1e999"),
    (
        "@long",
        "123456789012345678901234567890123456789012345678901234567890",
    ),
    (
        "@small",
        "-0.0000000000000000000000000000000000000000000000000000000001e-300",
    ),
    ("@nan", "NaN"),
    ("@surrogate", "\"\\ud800\""),
    ("@nul", "\"\\u0000\""),
];

/// An endless generator of messages.
pub(crate) struct Mutation {
    random: TestRng,
    /// Number of messages so far. It makes ids unique, unless a mutation changes them.
    count: u64,
}

impl Mutation {
    pub(crate) fn new(seed: &str) -> Self {
        let mut bytes = [0; 32];
        for (at, byte) in seed.bytes().enumerate() {
            bytes[at % 32] ^= byte;
        }
        Self {
            random: TestRng::from_seed(RngAlgorithm::ChaCha, &bytes),
            count: 0,
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// Returns the next message, without a line break.
    pub(crate) fn line(&mut self) -> Vec<u8> {
        self.count += 1;
        let mut message = self.message();
        for _ in 0..self.below(3) {
            self.change(&mut message, 0);
        }
        let mut text = message.to_string();
        for (sign, raw) in RAW {
            text = text.replace(&format!("\"{sign}\""), raw);
        }
        if self.one_in(10) {
            let twice = format!("{{\"id\":{},\"method\":\"ping\",", self.count);
            text = text.replacen('{', &twice, 1);
        }
        let mut bytes = text.into_bytes();
        if self.one_in(8) {
            self.damage(&mut bytes);
        }
        for byte in &mut bytes {
            if *byte == b'\n' {
                *byte = b' ';
            }
        }
        bytes
    }

    /// Returns a valid message.
    fn message(&mut self) -> Value {
        let id = self.id();
        let request = |method: &str, params: Value| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        // Few calls reach a model, because this test is about the server.
        let few = |count: u64| json!({"text": "Hi", "temperature": 0, "max_tokens": count});
        match self.below(1000) {
            0..5 => request(
                "tools/call",
                json!({"name": "chat", "arguments": few(3), "_meta": {"progressToken": 1}}),
            ),
            5..8 => request(
                "tools/call",
                with_envelope(json!({"name": "chat", "arguments": few(2)})),
            ),
            8 => request(
                "subscriptions/listen",
                with_envelope(json!({"notifications": {"toolsListChanged": true}})),
            ),
            9..60 => {
                json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": self.id()}})
            }
            60..100 => json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
            100..120 => json!({"jsonrpc": "2.0", "id": id, "result": {}}),
            120..200 => request(
                "initialize",
                json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}),
            ),
            200..300 => request("server/discover", with_envelope(json!({}))),
            300..400 => request("tools/list", with_envelope(json!({}))),
            400..500 => request("tools/list", json!({"cursor": null})),
            500..600 => request(
                "tools/call",
                json!({"name": "chat", "arguments": {"text": 7, "temperature": "hot"}}),
            ),
            600..700 => request(
                "tools/call",
                with_envelope(json!({"name": "no such", "arguments": {}})),
            ),
            700..750 => request("no/such", json!({})),
            _ => request("ping", json!({})),
        }
    }

    /// Returns an id that is usually unique.
    fn id(&mut self) -> Value {
        match self.below(40) {
            0 => json!(null),
            1 => json!(true),
            2 => json!([1]),
            3 => json!({"id": 1}),
            4 => json!(1.5),
            5 => json!(-1),
            6 => json!(u64::MAX),
            7 => json!("@huge"),
            8 => json!("@long"),
            9 => json!(""),
            10 => json!(self.text()),
            11 => json!("@surrogate"),
            12..20 => json!(self.count.to_string()),
            // Some of these requests are still in flight.
            20..24 => json!(self.count.saturating_sub(3)),
            _ => json!(self.count),
        }
    }

    /// Changes something in `value`, at any depth.
    fn change(&mut self, value: &mut Value, depth: usize) {
        let is_ahead = depth < 4 && !self.one_in(3);
        match value {
            Value::Object(members) if !members.is_empty() && is_ahead => {
                let at = self.below(members.len());
                let key = members.keys().nth(at).cloned().unwrap();
                match self.below(6) {
                    0 => drop(members.remove(&key)),
                    1 => drop(members.insert(self.text(), Value::Null)),
                    2 => {
                        let moved = members.remove(&key).unwrap();
                        members.insert(format!("{key}x"), moved);
                    }
                    _ => self.change(&mut members[&key], depth + 1),
                }
            }
            Value::Array(items) if !items.is_empty() && is_ahead => {
                let at = self.below(items.len());
                self.change(&mut items[at], depth + 1);
            }
            // Rarely replaces the whole message, because little would be left to test.
            other if depth > 0 || self.one_in(20) => *other = self.value(),
            _ => {}
        }
    }

    /// Returns an arbitrary value.
    fn value(&mut self) -> Value {
        match self.below(16) {
            0 => Value::Null,
            1 => true.into(),
            2 => json!(i64::MIN),
            3 => json!(self.random.random::<u64>()),
            4 => json!(1e300),
            5 => {
                let (sign, _) = RAW[self.below(RAW.len())];
                sign.into()
            }
            6 => {
                // Depths on both sides of the parser's limit.
                let depth = 120 + self.below(16);
                (0..depth).fold(json!(0), |inner, _| json!([inner]))
            }
            7 => (0..40).fold(json!({}), |inner, _| json!({"a": inner})),
            8 => "x".repeat(self.below(8000)).into(),
            9 => json!([]),
            10 => Value::Object(Map::new()),
            11 => json!([1, "a", null, {"b": []}]),
            12 => "2026-07-28".into(),
            _ => self.text().into(),
        }
    }

    /// Returns text with characters of every kind.
    fn text(&mut self) -> String {
        let length = self.below(20);
        (0..length).map(|_| self.random.random::<char>()).collect()
    }

    /// Flips, removes or inserts bytes.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len());
        match self.below(5) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << self.below(8),
            2 => drop(bytes.remove(at)),
            3 => bytes.insert(at, self.random.random()),
            _ => {
                let end = (at + self.below(30)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = self.below(bytes.len());
                bytes.splice(to..to, piece);
            }
        }
    }
}
