//! Recognises the variables with which Kubernetes and Docker describe a service. Pure.

use std::net::IpAddr;

/// Returns whether Kubernetes or Docker set a variable to describe a service whose name begins with `llama-mcp`. `name` is the part after
/// `LLAMA_MCP_`. For the service `llama-mcp`, they set `LLAMA_MCP_SERVICE_HOST` and `LLAMA_MCP_PORT_8080_TCP`.
pub(super) fn is_service(name: &str, value: &str) -> bool {
    let parts: Vec<&str> = name.split('_').collect();
    // Only names of keys have two underscores in a row.
    !parts.contains(&"") && (0..parts.len()).any(|at| describes(&parts[at..], value))
}

/// Returns whether `parts`, the words of a variable after the name of the service, and its value describe a service.
fn describes(parts: &[&str], value: &str) -> bool {
    const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];
    let is_port = |text: &str| text.parse::<u16>().is_ok();
    let is_address = |value: &str| {
        let protocol = value.split_once("://").map(|(protocol, _)| protocol);
        protocol.is_some_and(|protocol| PROTOCOLS.contains(&protocol))
    };
    match *parts {
        ["SERVICE", "HOST"] => value.parse::<IpAddr>().is_ok(),
        ["SERVICE", "PORT", ..] => is_port(value),
        ["PORT"] => is_address(value),
        ["PORT", port, protocol, ref rest @ ..]
            if is_port(port) && PROTOCOLS.contains(&&*protocol.to_lowercase()) =>
        {
            match rest {
                [] => is_address(value),
                ["PROTO"] => PROTOCOLS.contains(&value),
                ["PORT"] => is_port(value),
                ["ADDR"] => value.parse::<IpAddr>().is_ok(),
                _ => false,
            }
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_service;

    #[test]
    fn only_variables_with_fitting_values_describe_a_service() {
        for (name, value) in [
            ("SERVICE_HOST", "10.0.0.1"),
            ("SERVICE_HOST", "fd00::1"),
            ("SERVICE_PORT", "8080"),
            ("SERVICE_PORT_HTTP", "8080"),
            ("PORT", "tcp://10.0.0.1:8080"),
            ("PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("PORT_8080_TCP_PROTO", "tcp"),
            ("PORT_8080_TCP_PORT", "8080"),
            ("PORT_53_UDP_ADDR", "10.0.0.1"),
        ] {
            assert!(is_service(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("PORT", "8080"),
            ("HOST", "tcp://10.0.0.1:8080"),
            ("SERVICE_HOST", "my-host"),
            ("SERVICE_PORT", "http"),
            ("PORT_X_TCP", "tcp://10.0.0.1:8080"),
            ("PORT_8080_TCP_NAME", "x"),
        ] {
            assert!(!is_service(name, value), "{name}={value}");
        }
    }
}
