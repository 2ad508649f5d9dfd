//! The schemas of numbers that the grammar follows. Each is bounded and allows at least one number.
//!
//! A number is written without an exponent, from -(2^53 - 1) to 2^53 - 1, with at most [`MAX_FRACTION`] digits after the decimal point.
//! llguidance itself does not limit the digits, but `multipleOf` does: a multiple of 0.01 has at most two. Numbers are computed exactly,
//! in units of the last digit.

use serde_json::{Map, Number, Value, json};

use super::{SchemaFault, fault};
use crate::json::integer::whole;

/// Maximum number of digits after the decimal point. The 32-bit arithmetic of the grammar allows no more (see `Step`).
pub(crate) const MAX_FRACTION: u32 = 8;

/// Number of units in 1.
const ONE: i128 = 10_i128.pow(MAX_FRACTION);

/// Greatest integer that a double distinguishes from its neighbours (RFC 8259, section 6).
const EXACT: i128 = (1 << 53) - 1;

/// A number in units, rounded down.
#[derive(Clone, Copy)]
struct Units {
    floor: i128,
    is_exact: bool,
}

impl Units {
    /// Converts `number`. A number beyond [`EXACT`] becomes `EXACT + 1`.
    fn from_number(number: &Number) -> Self {
        let beyond = (EXACT + 1) * ONE;
        let text = number.to_string();
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        // At most 20 digits of an integer, or 17 digits of a double and some zeros.
        let digits: i128 = format!("{whole}{fraction}").parse().unwrap_or_default();
        let exponent: i64 = exponent.parse().unwrap_or_default();
        let digits_after = i64::try_from(fraction.len()).unwrap_or_default();
        let shift = exponent - digits_after + i64::from(MAX_FRACTION);
        let power = u32::try_from(shift.unsigned_abs())
            .ok()
            .and_then(|shift| 10_i128.checked_pow(shift));
        let (floor, is_exact) = match power {
            _ if digits == 0 => (0, true),
            Some(power) if shift >= 0 => (
                digits
                    .checked_mul(power)
                    .unwrap_or(beyond * digits.signum()),
                true,
            ),
            None if shift >= 0 => (beyond * digits.signum(), true),
            Some(power) => (digits.div_euclid(power), digits.rem_euclid(power) == 0),
            None => (digits.signum().min(0), false),
        };
        Self {
            floor: floor.clamp(-beyond, beyond),
            is_exact,
        }
    }

    fn ceiling(self) -> i128 {
        self.floor + i128::from(!self.is_exact)
    }
}

/// The number of which all allowed numbers are multiples.
struct Step {
    units: i128,
    /// `multipleOf` in the form that llguidance reads exactly.
    multiple_of: Number,
}

impl Step {
    /// Creates a step of `units`, which is at least 1. Returns `None` if llguidance cannot represent it.
    ///
    /// llguidance reads `multipleOf` as `coefficient / 10^digits`: it multiplies a double by 10 until it is whole. Then it computes with
    /// both in unchecked 32-bit arithmetic (`RemainderIs` in derivre).
    fn new(units: i128) -> Option<Self> {
        let (coefficient, digits) = in_decimal(units);
        let fits = 10 * coefficient + 9 * 10_i128.pow(digits) <= i128::from(u32::MAX);
        let near: f64 = decimal(units).parse().ok().filter(|_| fits)?;
        // 0.07 · 10 · 10 is more than 7, but a neighbouring double gives exactly 7.
        let read = |double: f64| {
            let mut read = double;
            for _ in 0..digits {
                if read.fract() == 0.0 {
                    return None;
                }
                read *= 10.0;
            }
            whole(read)
        };
        let bits = near.to_bits();
        let double = (bits.saturating_sub(4)..=bits.saturating_add(4))
            .map(f64::from_bits)
            .chain([near])
            .find(|double| read(*double).map(i128::from) == Some(coefficient))?;
        Some(Self {
            units,
            multiple_of: Number::from_f64(double)?,
        })
    }

    /// Returns the greatest absolute value of a number, in units. If answers are checked for multiples, doubles must distinguish its last
    /// digits.
    fn limit(&self, is_checked: bool) -> i128 {
        let mut last_digit = ONE;
        while is_checked && self.units % last_digit != 0 {
            last_digit /= 10;
        }
        EXACT * last_digit
    }

    /// Reads `multipleOf` from `table`. Without one, the step is 1 for integers and one unit for other numbers.
    fn from_table(
        is_integer: bool,
        table: &Map<String, Value>,
        at: &str,
    ) -> Result<Self, SchemaFault> {
        let at = format!("{at}/multipleOf");
        let least = if is_integer { ONE } else { 1 };
        let units = match table.get("multipleOf") {
            None => least,
            Some(Value::Number(number)) if number.as_f64().is_some_and(|number| number > 0.0) => {
                let units = Units::from_number(number);
                if !units.is_exact {
                    let reason =
                        format!("must have at most {MAX_FRACTION} digits after the decimal point");
                    return Err(fault(&at, reason));
                }
                units.floor / greatest_common_divisor(units.floor, least) * least
            }
            Some(_) => return Err(fault(&at, "must be a positive number")),
        };
        Self::new(units).ok_or_else(|| fault(&at, "has too many digits to enforce; use fewer"))
    }
}

/// Splits `units` into a coefficient and the number of its digits after the decimal point.
fn in_decimal(units: i128) -> (i128, u32) {
    let (mut coefficient, mut digits) = (units, MAX_FRACTION);
    while digits > 0 && coefficient % 10 == 0 {
        coefficient /= 10;
        digits -= 1;
    }
    (coefficient, digits)
}

/// Returns how many remainders the grammar distinguishes for the numbers of `table`: 25 for a `multipleOf` of 0.25.
pub(super) fn remainders(table: &Map<String, Value>) -> usize {
    let units = match table.get("multipleOf") {
        Some(Value::Number(number)) => Units::from_number(number).floor,
        _ => 0,
    };
    usize::try_from(in_decimal(units).0).unwrap_or(usize::MAX)
}

fn greatest_common_divisor(a: i128, b: i128) -> i128 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// Formats `units` as a decimal number.
fn decimal(units: i128) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let (whole, fraction) = (units.abs() / ONE, units.abs() % ONE);
    let width = MAX_FRACTION as usize;
    format!("{sign}{whole}.{fraction:0width$}")
}

/// Returns the schema that the grammar follows for the numbers, or integers, of `table`.
pub(super) fn number(
    is_integer: bool,
    table: &Map<String, Value>,
    at: &str,
) -> Result<Value, SchemaFault> {
    let bound = |key: &str| match table.get(key) {
        None => Ok(None),
        Some(Value::Number(number)) => Ok(Some(Units::from_number(number))),
        Some(_) => Err(fault(&format!("{at}/{key}"), "must be a number")),
    };
    let least = [
        bound("minimum")?.map(Units::ceiling),
        bound("exclusiveMinimum")?.map(|bound| bound.floor + 1),
    ];
    let most = [
        bound("maximum")?.map(|bound| bound.floor),
        bound("exclusiveMaximum")?.map(|bound| bound.ceiling() - 1),
    ];
    let step = Step::from_table(is_integer, table, at)?;
    let limit = step.limit(table.contains_key("multipleOf"));
    let least = least.into_iter().flatten().fold(-limit, i128::max);
    let most = most.into_iter().flatten().fold(limit, i128::min);
    let first = -(-least).div_euclid(step.units) * step.units;
    let last = most.div_euclid(step.units) * step.units;
    if first > last {
        return Err(no_number(is_integer, table, at));
    }
    if is_integer {
        let in_ones = |units: i128| i64::try_from(units / ONE).unwrap_or_default();
        let mut made =
            json!({"type": "integer", "minimum": in_ones(first), "maximum": in_ones(last)});
        if step.units > ONE {
            made["multipleOf"] = in_ones(step.units).into();
        }
        return Ok(made);
    }
    // llguidance computes multiples in doubles and misses the only one between -22 and -21.07, because 7 · 3.01 is more than 21.07.
    if first == last
        && let Some(only) = decimal(first).parse().ok().and_then(Number::from_f64)
    {
        return Ok(json!({"enum": [only]}));
    }
    let mut made = json!({"type": "number", "multipleOf": step.multiple_of});
    let (least, most) = (
        ["minimum", "exclusiveMinimum"],
        ["maximum", "exclusiveMaximum"],
    );
    set_bound(&mut made, table, (first, -limit), least);
    set_bound(&mut made, table, (last, limit), most);
    Ok(made)
}

/// Sets the bound `units`, which is itself allowed, if the grammar can use it exactly. A bound near 0, such as 0.5 in 0 < n < 0.5, is
/// always written this way. Away from 0, the grammar would not allow shorter numbers for a bound of many digits, so the bound stays as
/// it was written. It also stays if no double represents `units` exactly within `limit`.
fn set_bound(
    made: &mut Value,
    table: &Map<String, Value>,
    (units, limit): (i128, i128),
    keys: [&str; 2],
) {
    let double = decimal(units).parse().ok().and_then(Number::from_f64);
    let is_inner = units.signum() != limit.signum();
    let is_whole = units % ONE == 0;
    let exact = double.filter(|double| {
        let read = Units::from_number(double);
        (is_inner || is_whole || !table.contains_key(keys[1]))
            && read.is_exact
            && read.floor == units
    });
    if let Some(exact) = exact {
        made[keys[0]] = exact.into();
        return;
    }
    // The limit as an integer, rounded towards 0.
    made[keys[0]] = i64::try_from(limit / ONE).unwrap_or_default().into();
    for key in keys {
        if let Some(Value::Number(bound)) = table.get(key)
            && Units::from_number(bound).floor.abs() < limit.abs()
        {
            made[key] = bound.clone().into();
        }
    }
}

fn no_number(is_integer: bool, table: &Map<String, Value>, at: &str) -> SchemaFault {
    let keywords: Vec<String> = super::types::keywords_of("number")
        .iter()
        .filter_map(|key| Some(format!("`{key}` {}", table.get(*key)?)))
        .collect();
    let (kind, fraction) = if is_integer {
        ("integers", String::new())
    } else {
        (
            "numbers",
            format!(", with at most {MAX_FRACTION} digits after the decimal point"),
        )
    };
    let reason = format!(
        "{} leaves no value: {kind} are written from -{EXACT} to {EXACT}{fraction}",
        keywords.join(" with ")
    );
    fault(at, reason)
}
