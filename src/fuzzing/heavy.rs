//! Targets with bounds on time and memory: chat templates, and the memory permits of messages.

use std::collections::HashMap;

use crate::engine::template::{Variables, check_messages};
use crate::engine::{Message, Role};
use crate::transport::http::limits::LimitUsage;

/// Renders a chat template on a stack like that of a worker's thread. It ends within the limits on time and memory.
pub fn template(bytes: &[u8]) {
    let Ok(source) = std::str::from_utf8(bytes) else {
        return;
    };
    let messages = vec![
        Message::new(Role::System, "Be brief."),
        Message::new(Role::User, "Hi"),
    ];
    drop(check_messages(source, &messages, &Variables::new()));
}

/// Reserves and releases memory for messages. Three bytes of input are one step: a client, one of its messages, and the bytes that the message
/// reserves. The sums of all clients and of each client stay within their limits, and in the end nothing is reserved.
pub fn budget(bytes: &[u8]) {
    const MAX: usize = 1000;
    let mut usage = LimitUsage::default();
    let mut held: HashMap<(u8, u8), usize> = HashMap::new();
    for step in bytes.chunks_exact(3) {
        let (client, key) = ((step[0] % 4).to_string(), (step[0] % 4, step[1] % 8));
        let now = held.get(&key).copied().unwrap_or(0);
        let wanted = usize::from(step[2]) * 4;
        if wanted == 0 {
            usage.release(&client, now);
            held.remove(&key);
        } else if usage.reserve(&client, now, wanted, MAX).is_ok() {
            held.insert(key, wanted);
        }
        let sum = |wanted: &dyn Fn(u8) -> bool| {
            let messages = held.iter().filter(|((client, _), _)| wanted(*client));
            messages.map(|(_, bytes)| bytes).sum::<usize>()
        };
        assert!(sum(&|_| true) <= MAX);
        assert!((0..4).all(|one| sum(&|client| client == one) <= MAX / 2));
    }
    for ((client, _), bytes) in held {
        usage.release(&client.to_string(), bytes);
    }
    assert!(usage.reserve("4", 0, MAX / 2, MAX).is_ok());
    assert!(usage.reserve("5", 0, MAX / 2, MAX).is_ok());
}
