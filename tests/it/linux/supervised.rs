//! What a service manager is told, by a socket as systemd's.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;

use crate::support::config::{Folder, ONE};
use crate::support::http::HttpServer;
use crate::support::{LIMIT, program};

/// The next message.
fn next(socket: &UnixDatagram) -> String {
    let mut message = [0; 1024];
    let received = loop {
        // A socket with a timeout is not read again by itself after a signal.
        match socket.recv(&mut message) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => break received,
        }
    };
    let length = received.unwrap();
    String::from_utf8_lossy(&message[..length]).into_owned()
}

#[test]
fn the_service_manager_is_told_when_the_server_is_ready_reads_again_and_ends() {
    let file = format!("[server]\nwatch = 'off'\n{ONE}");
    let folder = Folder::new("supervised", &file);
    let at = folder.0.join("notify");
    let socket = UnixDatagram::bind(&at).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut command = program();
    command
        .arg("--config")
        .arg(folder.0.join("llama-mcp-server.toml"))
        .env("NOTIFY_SOCKET", &at);
    let mut server = HttpServer::of(command);
    assert_eq!(next(&socket).trim(), "READY=1");
    // Also where the edit is refused: who asked waits for that.
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
