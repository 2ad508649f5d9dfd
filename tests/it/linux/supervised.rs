//! Notifications to a service manager, through a socket like that of systemd.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;

use crate::support::config::{Folder, ONE_MODEL};
use crate::support::http::HttpServer;
use crate::support::{LIMIT, program};

/// Returns the next message.
fn next(socket: &UnixDatagram) -> String {
    let mut message = [0; 1024];
    let received = loop {
        // A signal interrupts a socket with a timeout, and std does not retry.
        match socket.recv(&mut message) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => break received,
        }
    };
    let length = received.unwrap();
    String::from_utf8_lossy(&message[..length]).into_owned()
}

#[test]
fn the_service_manager_is_notified_of_readiness_reloads_and_shutdown() {
    let file = format!("[server]\nwatch = 'off'\n{ONE_MODEL}");
    let folder = Folder::new("supervised", &file);
    let at = folder.0.join("notify");
    let socket = UnixDatagram::bind(&at).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut command = program();
    command
        .arg("--config")
        .arg(folder.0.join("llama-mcp-server.toml"))
        .env("NOTIFY_SOCKET", &at);
    let mut server = HttpServer::spawn(command);
    assert_eq!(next(&socket).trim(), "READY=1");
    // Rejected edits are reported, too: whoever requested the reload waits for that.
    for text in [file.as_str(), "[models"] {
        folder.write("llama-mcp-server.toml", text);
        server.signal("HUP");
        let reloading = next(&socket);
        assert!(
            reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="),
            "{reloading}"
        );
        assert_eq!(next(&socket).trim(), "READY=1");
    }
    server.signal("TERM");
    assert_eq!(next(&socket).trim(), "STOPPING=1");
    assert!(server.wait().success());
}
