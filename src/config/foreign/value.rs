//! Translates values of other programs.

use serde_json::Value;

/// A value, with its meanings in other programs.
struct Found<'value> {
    value: &'value Value,
    /// The value in lower case, if it is a string.
    text: Option<String>,
    /// The value if it is a number, or a string that contains one.
    number: Option<f64>,
}

impl<'value> Found<'value> {
    fn new(value: &'value Value) -> Self {
        let text = value.as_str().map(str::to_lowercase);
        let parsed = || text.as_deref()?.parse().ok();
        Self {
            value,
            number: value.as_f64().or_else(parsed),
            text,
        }
    }

    fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    fn is_zero(&self) -> bool {
        self.number == Some(0.0)
    }

    fn is_negative(&self) -> bool {
        self.number.is_some_and(|number| number < 0.0)
    }

    /// Returns whether the value means no limit: a negative number, or a word such as `all`.
    fn is_unlimited(&self) -> bool {
        self.is_negative()
            || matches!(
                self.text(),
                Some("all" | "max" | "auto" | "unlimited" | "infinity" | "inf" | "none")
            )
    }

    /// Returns whether the value means no limit or no time: [`Self::is_unlimited`], or a word such as `never`.
    fn is_never(&self) -> bool {
        self.is_unlimited()
            || matches!(
                self.text(),
                Some("never" | "forever" | "off" | "disabled" | "null")
            )
    }
}

/// Returns a hint for the value `found` of `key` if another program accepts that value.
pub(in crate::config) fn hint(key: &str, found: &Value) -> Option<String> {
    let found = Found::new(found);
    let fixed = limit_hint(key, &found).or_else(|| word_hint(key, &found));
    fixed
        .map(str::to_owned)
        .or_else(|| converted_hint(key, &found))
}

/// Returns the hint for a number, or for a word that means no limit.
fn limit_hint(key: &str, found: &Found<'_>) -> Option<&'static str> {
    let (is_unlimited, is_zero) = (found.is_unlimited(), found.is_zero());
    Some(match key {
        "n_gpu_layers" if is_unlimited => {
            "write `99` to put all layers on the GPU, or `\"auto\"` for as many as fit"
        }
        "n_ctx" if is_unlimited => "write `0` for the context that the model was trained for",
        "n_threads" if is_unlimited => "write `0` for one thread per core",
        "parallel" if is_unlimited || is_zero => {
            "write the number of calls that run at once; the default is `4`"
        }
        "max_tokens" | "max_tokens_limit" if is_unlimited => {
            "an answer always has a limit: write a number below `n_ctx`, so that the prompt also fits"
        }
        "repeat_last_n" if found.is_negative() => {
            "write the value of `n_ctx` for the whole context"
        }
        "top_k" if found.is_negative() => "write `0` to switch it off",
        "cache_ram" if is_unlimited => {
            "the cache always has a limit: write a size such as `\"8GiB\"`"
        }
        "memory_budget" if is_unlimited => "write `\"100%\"`",
        "max_loaded" if is_unlimited || is_zero => "leave it out for no limit",
        "idle_ttl" | "stall_timeout" if found.is_never() => "write `\"never\"`",
        "idle_ttl" if found.text() == Some("0") => {
            "write `0`, without quotes, to unload it after each call"
        }
        "stall_timeout" if is_zero => "write `\"never\"` to switch it off",
        "deadline" if found.is_never() || is_zero => "leave it out for no deadline",
        _ => return None,
    })
}

/// Returns the hint for a switch, or for a word that other programs use.
fn word_hint(key: &str, found: &Found<'_>) -> Option<&'static str> {
    let switch = switch(found.value);
    let is_single = |value: &Value| value.as_array().is_some_and(|items| items.len() == 1);
    Some(match (key, found.text()) {
        ("flash_attn" | "thinking", _) if switch == Some(false) => "write `\"off\"`",
        ("flash_attn", _) if switch == Some(true) => "write `\"on\"`",
        ("thinking", _) if switch == Some(true) => {
            "write `\"before\"`, which lets the model reason and leaves the reasoning out of the answer"
        }
        ("sandbox", _) if switch == Some(true) => {
            "write `\"auto\"`, the default, or `\"required\"`"
        }
        ("sandbox", _) if switch == Some(false) => "write `\"off\"`",
        ("thinking_tags", text) if text.is_some() || is_single(found.value) => {
            "write both tags: `[\"<think>\", \"</think>\"]`"
        }
        ("seed", Some("random")) => "write `-1` for a random seed",
        (
            "transport",
            Some("sse" | "streamable-http" | "streamable_http" | "streamablehttp" | "https"),
        ) => "write `\"http\"`, which is Streamable HTTP",
        ("split_mode", Some("tensor")) => {
            "`tensor` is not supported: write `\"layer\"`, the default"
        }
        ("type", Some("float" | "double" | "decimal")) => "write `\"number\"`",
        ("type", Some("int" | "long")) => "write `\"integer\"`",
        ("type", Some("bool")) => "write `\"boolean\"`",
        ("type", Some("str" | "text")) => "write `\"string\"`",
        ("type", Some("list")) => "write `\"array\"`",
        ("type", Some("object" | "dict" | "map")) => {
            "objects are not supported: declare an argument for each field"
        }
        _ => return None,
    })
}

/// Returns the hint that contains the value in the form of this program.
fn converted_hint(key: &str, found: &Found<'_>) -> Option<String> {
    match key {
        "memory_budget" => {
            let share = found.number.filter(|share| (0.0..=1.0).contains(share))?;
            Some(format!("write a share as `\"{:.0}%\"`", share * 100.0))
        }
        "n_ctx" | "max_tokens" | "kv_cells" | "n_batch" => {
            let number = thousands(found.text()?)?;
            Some(format!("write the number: `{number}`"))
        }
        "lora" if found.value.is_string() => {
            Some(format!("write a table: `{{ path = {} }}`", found.value))
        }
        _ => None,
    }
}

/// Returns the number that `text` such as `8k` means: tokens are counted in multiples of 1024.
fn thousands(text: &str) -> Option<u64> {
    let number: u64 = text.trim().strip_suffix('k')?.trim_end().parse().ok()?;
    number.checked_mul(1024)
}

/// Parses a switch in the spelling of any program: `Some(true)` for on, `Some(false)` for off.
pub(in crate::config) fn switch(found: &Value) -> Option<bool> {
    match found {
        Value::Bool(is_on) => Some(*is_on),
        Value::Number(number) => match number.as_i64()? {
            1 => Some(true),
            0 => Some(false),
            _ => None,
        },
        Value::String(text) => match text.to_lowercase().as_str() {
            "true" | "yes" | "on" | "enabled" | "1" => Some(true),
            "false" | "no" | "off" | "disabled" | "none" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}
