//! Translates values that other programs accept.

use serde_json::Value;

/// Returns what to write instead of the value `found` of `key`, if another program accepts that value.
pub(in crate::config) fn hint(key: &str, found: &Value) -> Option<String> {
    let text = found.as_str().map(str::to_lowercase);
    let text = text.as_deref();
    let number = found
        .as_f64()
        .or_else(|| text.and_then(|text| text.parse().ok()));
    let is_negative = number.is_some_and(|number| number < 0.0);
    let is_all = matches!(
        text,
        Some("all" | "max" | "auto" | "unlimited" | "infinity")
    );
    let switch = switch(found);
    let told = match key {
        "n_gpu_layers" if is_negative || is_all => {
            "write `99` to put all layers on the GPU, or `\"auto\"` for as many as fit"
        }
        "n_ctx" if is_negative || is_all => {
            "write `0` for the context that the model was trained for"
        }
        "n_threads" if is_negative || is_all => "write `0` for one thread per core",
        "parallel" if is_negative || is_all || number == Some(0.0) => {
            "write the number of calls that are answered at once; the default is `4`"
        }
        "max_tokens" | "max_tokens_limit" if is_negative || is_all => {
            "an answer always has a limit: to allow the whole context, write the value of `n_ctx`"
        }
        "repeat_last_n" if is_negative => "write the value of `n_ctx` for the whole context",
        "top_k" if is_negative => "write `0` to switch it off",
        "flash_attn" | "thinking" if switch == Some(false) => "write `\"off\"`",
        "flash_attn" if switch == Some(true) => "write `\"on\"`",
        "thinking" if switch == Some(true) => {
            "write `\"before\"`, which asks for reasoning and leaves it out of the answer"
        }
        "cache_ram" if is_negative || is_all => {
            "the cache always has a limit: write a size such as `\"8GiB\"`"
        }
        "memory_budget" if is_negative || is_all => "write `\"100%\"`",
        "max_loaded" if is_negative || is_all || number == Some(0.0) => "leave it out for no limit",
        "idle_ttl" | "stall_timeout" if is_negative || is_all => "write `\"never\"`",
        "deadline" if is_negative || number == Some(0.0) => "leave it out for no deadline",
        "split_mode" if text == Some("tensor") => {
            "`tensor` is not supported: write `\"layer\"`, the default"
        }
        "lora" if found.is_string() => {
            return Some(format!("write a table: `{{ path = {found} }}`"));
        }
        _ => return None,
    };
    Some(told.to_owned())
}

/// Returns whether `found` means on or off in any program's spelling; `None` if it means neither.
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
