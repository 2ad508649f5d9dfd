//! Translates values of other programs.

use serde_json::Value;

/// Returns a hint for the value `found` of `key` if another program accepts that value.
pub(in crate::config) fn hint(key: &str, found: &Value) -> Option<String> {
    let text = found.as_str().map(str::to_lowercase);
    let text = text.as_deref();
    let number = found
        .as_f64()
        .or_else(|| text.and_then(|text| text.parse().ok()));
    let is_negative = number.is_some_and(|number| number < 0.0);
    let is_all = matches!(
        text,
        Some("all" | "max" | "auto" | "unlimited" | "infinity" | "inf" | "none")
    );
    let is_never = matches!(
        text,
        Some("never" | "forever" | "off" | "disabled" | "null")
    );
    let switch = switch(found);
    let hint = match key {
        "n_gpu_layers" if is_negative || is_all => {
            "write `99` to put all layers on the GPU, or `\"auto\"` for as many as fit"
        }
        "n_ctx" if is_negative || is_all => {
            "write `0` for the context that the model was trained for"
        }
        "n_threads" if is_negative || is_all => "write `0` for one thread per core",
        "parallel" if is_negative || is_all || number == Some(0.0) => {
            "write the number of calls that run at once; the default is `4`"
        }
        "max_tokens" | "max_tokens_limit" if is_negative || is_all => {
            "an answer always has a limit: write a number below `n_ctx`, so that the prompt also fits"
        }
        "repeat_last_n" if is_negative => "write the value of `n_ctx` for the whole context",
        "top_k" if is_negative => "write `0` to switch it off",
        "flash_attn" | "thinking" if switch == Some(false) => "write `\"off\"`",
        "flash_attn" if switch == Some(true) => "write `\"on\"`",
        "thinking" if switch == Some(true) => {
            "write `\"before\"`, which lets the model reason and leaves the reasoning out of the answer"
        }
        "cache_ram" if is_negative || is_all => {
            "the cache always has a limit: write a size such as `\"8GiB\"`"
        }
        "memory_budget" if is_negative || is_all => "write `\"100%\"`",
        "max_loaded" if is_negative || is_all || number == Some(0.0) => "leave it out for no limit",
        "idle_ttl" | "stall_timeout" if is_negative || is_all || is_never => "write `\"never\"`",
        "idle_ttl" if text == Some("0") => {
            "write `0`, without quotes, to unload it after each call"
        }
        "stall_timeout" if number == Some(0.0) => "write `\"never\"` to switch it off",
        "seed" if text == Some("random") => "write `-1` for a random seed",
        "transport"
            if matches!(
                text,
                Some("sse" | "streamable-http" | "streamable_http" | "streamablehttp" | "https")
            ) =>
        {
            "write `\"http\"`, which is Streamable HTTP"
        }
        "sandbox" if switch == Some(true) => "write `\"auto\"`, the default, or `\"required\"`",
        "sandbox" if switch == Some(false) => "write `\"off\"`",
        "thinking_tags"
            if found.is_string() || found.as_array().is_some_and(|tags| tags.len() == 1) =>
        {
            "write both tags: `[\"<think>\", \"</think>\"]`"
        }
        "type" if matches!(text, Some("float" | "double" | "decimal")) => "write `\"number\"`",
        "type" if matches!(text, Some("int" | "long")) => "write `\"integer\"`",
        "type" if matches!(text, Some("bool")) => "write `\"boolean\"`",
        "type" if matches!(text, Some("str" | "text")) => "write `\"string\"`",
        "type" if matches!(text, Some("list")) => "write `\"array\"`",
        "type" if matches!(text, Some("object" | "dict" | "map")) => {
            "objects are not supported: declare an argument for each field"
        }
        "deadline" if is_negative || is_all || is_never || number == Some(0.0) => {
            "leave it out for no deadline"
        }
        "split_mode" if text == Some("tensor") => {
            "`tensor` is not supported: write `\"layer\"`, the default"
        }
        "memory_budget" if number.is_some_and(|share| (0.0..=1.0).contains(&share)) => {
            let percent = number.unwrap_or_default() * 100.0;
            return Some(format!("write a share as `\"{percent:.0}%\"`"));
        }
        "n_ctx" | "max_tokens" | "kv_cells" | "n_batch" if thousands(text).is_some() => {
            let number = thousands(text).unwrap_or_default();
            return Some(format!("write the number: `{number}`"));
        }
        "lora" if found.is_string() => {
            return Some(format!("write a table: `{{ path = {found} }}`"));
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// Returns the number that `text` such as `8k` means: tokens are counted in multiples of 1024.
fn thousands(text: Option<&str>) -> Option<u64> {
    let number: u64 = text?.trim().strip_suffix('k')?.trim_end().parse().ok()?;
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
