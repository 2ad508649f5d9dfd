//! Notifications to systemd about the state of the server (`sd_notify(3)`; `systemd.service(5)`, `Type=notify-reload`). Without systemd,
//! they do nothing.

/// The state of the server, as a service manager sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServiceState {
    /// The server accepts calls.
    Ready,
    /// The server reads its configuration again. [`Self::Ready`] follows even if the new configuration is rejected.
    Reloading,
    /// The server shuts down.
    Stopping,
}

/// Notifies the service manager that the server is in `state`.
#[cfg(target_os = "linux")]
pub(crate) fn notify(state: ServiceState) {
    use sd_notify::NotifyState;
    let notified = match state {
        ServiceState::Ready => sd_notify::notify(&[NotifyState::Ready]),
        // With the time, systemd can match the later `Ready` to this reload.
        ServiceState::Reloading => NotifyState::monotonic_usec_now()
            .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now])),
        ServiceState::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
    };
    if let Err(error) = notified {
        tracing::warn!(%error, ?state, "could not notify the service manager");
    }
}

/// Does nothing: this system has no systemd.
#[cfg(not(target_os = "linux"))]
pub(crate) fn notify(_: ServiceState) {}
