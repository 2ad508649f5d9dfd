//! Times, sizes and counts with units, such as `"90s"`, `"1h 30m"`, `"24GiB"`, `"80%"` and `"auto"`. A bare number is in seconds, bytes,
//! layers or iterations.

use std::borrow::Cow;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ranges::{N_GPU_LAYERS, Range, SPIN_COUNT as SPINS};
use crate::json::integer::whole_value;

/// Format of [`Time`] in schemas.
pub(crate) const TIME: &str = "time span";
/// Format of [`IdleTime`] in schemas.
pub(crate) const IDLE_TIME: &str = "idle time";
/// Format of [`Size`] in schemas.
pub(crate) const SIZE: &str = "size";
/// Format of [`Budget`] in schemas.
pub(crate) const BUDGET: &str = "memory budget";
/// Format of [`GpuLayers`] in schemas.
pub(crate) const GPU_LAYERS: &str = "number of layers";
/// Format of [`SpinCount`] in schemas.
pub(crate) const SPIN_COUNT: &str = "number of iterations";

/// Longest accepted time. A longer one is probably a mistake.
pub(super) const LONGEST: Duration = Duration::from_hours(24 * 365);

/// A time span, such as `"90s"` or 90.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "String")]
pub(crate) struct Time(pub Duration);

/// A time after which something idle ends; `None` is `"never"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "String")]
pub(crate) struct IdleTime(pub Option<Duration>);

/// A size in bytes, such as `"4MiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "String")]
pub(crate) struct Size(pub u64);

/// An amount of memory, such as `"24GiB"` or `"80%"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "String")]
pub(crate) enum Budget {
    /// Percentage of the memory of the machine or container.
    Percent(u8),
    /// Number of bytes.
    Bytes(u64),
}

/// Number of layers of a model that GPUs compute. The output counts as one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub(crate) enum GpuLayers {
    /// The most layers that fit into the free memory of the GPUs.
    Auto,
    /// A number of layers. More than the model has means all.
    Count(u32),
}

/// Number of iterations for which a waiting thread spins before it sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub(crate) enum SpinCount {
    /// The number that suits the machine.
    Auto,
    /// A number of iterations.
    Count(u32),
}

impl Time {
    /// Returns a time of whole seconds.
    pub(crate) const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Returns an error message if the time is not in the range `seconds`.
    pub(crate) fn fault(self, seconds: Range<f64>) -> Option<String> {
        let is_in = seconds.contains(self.0.as_secs_f64());
        (!is_in).then(|| format!("must be {seconds} seconds, found `{}`", String::from(self)))
    }
}

impl IdleTime {
    /// Returns a time of whole seconds.
    pub(crate) const fn after_secs(seconds: u64) -> Self {
        Self(Some(Duration::from_secs(seconds)))
    }
}

impl Size {
    /// Returns a size of `count` MiB.
    pub(crate) const fn mebibytes(count: u64) -> Self {
        Self(count << 20)
    }
}

impl Budget {
    /// Returns the budget in bytes, on a machine or in a container with `total` bytes of memory.
    pub(crate) fn in_bytes(self, total: u64) -> u64 {
        match self {
            // Divides first, so that the product cannot overflow.
            Self::Percent(percent) => total / 100 * u64::from(percent),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl GpuLayers {
    /// Returns whether GPUs compute any layer, provided that there are GPUs with enough memory.
    pub(crate) fn is_any(self) -> bool {
        self != Self::Count(0)
    }

    /// Returns the maximum number of layers that GPUs may compute.
    pub(crate) fn most(self) -> u32 {
        match self {
            Self::Auto => u32::MAX,
            Self::Count(count) => count,
        }
    }
}

/// Formats bytes for people, such as `1.5 GiB`.
pub(crate) fn human(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// Formats a time for people, such as `2m 5s` or `250ms`. Times above a second are truncated to whole seconds.
pub(crate) fn human_time(time: Duration) -> String {
    let whole = if time < Duration::from_secs(1) {
        Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or_default())
    } else {
        Duration::from_secs(time.as_secs())
    };
    SignedDuration::try_from(whole).map_or_else(
        |_too_long| format!("{} s", whole.as_secs()),
        |span| format!("{span:#}"),
    )
}

/// Returns whether `text` is a valid value of `format`, one of the formats of this module.
pub(crate) fn is_format(format: &str, text: &str) -> bool {
    let value = || Value::String(text.to_owned());
    match format {
        TIME => Time::try_from(value()).is_ok(),
        IDLE_TIME => IdleTime::try_from(value()).is_ok(),
        SIZE => Size::try_from(value()).is_ok(),
        BUDGET => Budget::try_from(value()).is_ok(),
        GPU_LAYERS => GpuLayers::try_from(value()).is_ok(),
        SPIN_COUNT => SpinCount::try_from(value()).is_ok(),
        _ => true,
    }
}

/// Error of a conversion. It is never shown, since the schema rejects such a value first.
type NotOfFormat = &'static str;

impl TryFrom<Value> for Time {
    type Error = NotOfFormat;

    fn try_from(value: Value) -> Result<Self, NotOfFormat> {
        let span = match &value {
            Value::String(text) => text
                .parse::<SignedDuration>()
                .ok()
                .and_then(|span| Duration::try_from(span).ok()),
            other => other
                .as_f64()
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        };
        span.filter(|span| *span <= LONGEST)
            .map(Self)
            .ok_or("not a time span")
    }
}

impl TryFrom<Value> for IdleTime {
    type Error = NotOfFormat;

    fn try_from(value: Value) -> Result<Self, NotOfFormat> {
        if value == "never" {
            return Ok(Self(None));
        }
        Time::try_from(value).map(|Time(span)| Self(Some(span)))
    }
}

impl TryFrom<Value> for Size {
    type Error = NotOfFormat;

    fn try_from(value: Value) -> Result<Self, NotOfFormat> {
        match &value {
            Value::String(text) => text.parse().ok().map(|ByteSize(bytes)| bytes),
            // JSON Schema treats 1e16 as an integer, but TOML as a float.
            other => whole_value(other).and_then(|bytes| u64::try_from(bytes).ok()),
        }
        .map(Self)
        .ok_or("not a size")
    }
}

impl TryFrom<Value> for Budget {
    type Error = NotOfFormat;

    fn try_from(value: Value) -> Result<Self, NotOfFormat> {
        if let Some(share) = value.as_str().and_then(|text| text.strip_suffix('%')) {
            return match share.trim().parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err("not a share"),
            };
        }
        Size::try_from(value).map(|Size(bytes)| Self::Bytes(bytes))
    }
}

macro_rules! auto_or_count {
    ($($count:ident)*) => {$(
        impl TryFrom<Value> for $count {
            type Error = NotOfFormat;

            fn try_from(value: Value) -> Result<Self, NotOfFormat> {
                if value == "auto" {
                    return Ok(Self::Auto);
                }
                let count = whole_value(&value).and_then(|count| u32::try_from(count).ok());
                count.map(Self::Count).ok_or("neither `auto` nor a count")
            }
        }

        impl From<$count> for Value {
            fn from(count: $count) -> Self {
                match count {
                    $count::Auto => "auto".into(),
                    $count::Count(count) => count.into(),
                }
            }
        }
    )*};
}

auto_or_count! { GpuLayers SpinCount }

impl From<Time> for String {
    fn from(Time(span): Time) -> Self {
        match SignedDuration::try_from(span) {
            Ok(span) => format!("{span:#}").replace(' ', ""),
            Err(_too_long) => format!("{}s", span.as_secs()),
        }
    }
}

impl From<IdleTime> for String {
    fn from(IdleTime(time): IdleTime) -> Self {
        time.map_or_else(|| "never".into(), |span| Time(span).into())
    }
}

impl From<Size> for String {
    fn from(Size(bytes): Size) -> Self {
        // Exact, so that the text parses to the same size.
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units
            .iter()
            .find(|(shift, _)| bytes > 0 && bytes % (1 << shift) == 0)
        {
            Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
            None => format!("{bytes}B"),
        }
    }
}

impl From<Budget> for String {
    fn from(budget: Budget) -> Self {
        match budget {
            Budget::Percent(percent) => format!("{percent}%"),
            Budget::Bytes(bytes) => Size(bytes).into(),
        }
    }
}

macro_rules! schema_of_text_or_number {
    ($($unit:ident: $name:literal, $format:ident, $number:literal to $most:expr, $examples:tt;)*) => {$(
        impl JsonSchema for $unit {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": ["string", $number], "minimum": 0, "maximum": $most, "format": $format, "examples": $examples})
            }
        }
    )*};
}

schema_of_text_or_number! {
    Time: "Time", TIME, "number" to LONGEST.as_secs(), ["90s", "15m"];
    IdleTime: "IdleTime", IDLE_TIME, "number" to LONGEST.as_secs(), ["15m", "never"];
    Size: "Size", SIZE, "integer" to i64::MAX, ["512KiB", "4MiB"];
    Budget: "Budget", BUDGET, "integer" to i64::MAX, ["24GiB", "80%"];
    GpuLayers: "GpuLayers", GPU_LAYERS, "integer" to N_GPU_LAYERS.max, [20, "auto"];
    SpinCount: "SpinCount", SPIN_COUNT, "integer" to SPINS.max, [2000, "auto"];
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written<T: Into<String>>(unit: T) -> String {
        unit.into()
    }

    #[test]
    fn times_are_strings_with_units_or_seconds() {
        let seconds = |value| Time::try_from(value).map(|Time(span)| span.as_secs_f64());
        assert_eq!(seconds(json!("15m")), Ok(900.0));
        assert_eq!(seconds(json!("1h 30m")), Ok(5400.0));
        assert_eq!(seconds(json!("250ms")), Ok(0.25));
        assert_eq!(seconds(json!(1.5)), Ok(1.5));
        for wrong in [
            json!("soon"),
            json!("-1s"),
            json!(-1),
            json!("100000h"),
            json!("15"),
            json!(true),
        ] {
            assert!(seconds(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_have_units_and_budgets_may_be_percentages() {
        assert_eq!(Size::try_from(json!("4MiB")), Ok(Size::mebibytes(4)));
        assert_eq!(Size::try_from(json!("1.5 GB")), Ok(Size(1_500_000_000)));
        assert_eq!(Budget::try_from(json!("80%")), Ok(Budget::Percent(80)));
        assert_eq!(
            Budget::try_from(json!("24GiB")),
            Ok(Budget::Bytes(24 << 30))
        );
        assert_eq!(Budget::Percent(90).in_bytes(1000), 900);
        for wrong in ["0%", "101%", "all", "-1GiB", ""] {
            assert!(Budget::try_from(json!(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn gpu_layers_are_a_number_or_auto() {
        let layers = |value| GpuLayers::try_from(value).ok();
        assert_eq!(layers(json!("auto")), Some(GpuLayers::Auto));
        assert_eq!(layers(json!(20)), Some(GpuLayers::Count(20)));
        for wrong in [json!("20"), json!("all"), json!(-1), json!(1.5), json!("")] {
            assert_eq!(layers(wrong.clone()), None, "{wrong}");
        }
        for layers in [GpuLayers::Auto, GpuLayers::Count(0)] {
            assert_eq!(GpuLayers::try_from(Value::from(layers)), Ok(layers));
        }
    }

    #[test]
    fn a_spin_count_is_a_number_or_auto() {
        let count = |value| SpinCount::try_from(value).ok();
        assert_eq!(count(json!("auto")), Some(SpinCount::Auto));
        assert_eq!(count(json!(0)), Some(SpinCount::Count(0)));
        assert_eq!(count(json!("2000")), None);
        for count in [SpinCount::Auto, SpinCount::Count(2000)] {
            assert_eq!(SpinCount::try_from(Value::from(count)), Ok(count));
        }
    }

    #[test]
    fn formatted_values_parse_to_the_same_value() {
        assert_eq!(written(Time::from_secs(5400)), "1h30m");
        assert_eq!(written(IdleTime(None)), "never");
        assert_eq!(written(Size::mebibytes(4)), "4MiB");
        assert_eq!(written(Budget::Bytes(1_000_001)), "1000001B");
        for text in ["1h30m", "2s500ms"] {
            assert_eq!(written(Time::try_from(json!(text)).unwrap()), text);
        }
    }
}
