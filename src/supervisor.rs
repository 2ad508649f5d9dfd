//! What the service manager that started the server is told: systemd's protocol (`sd_notify(3)`; `systemd.service(5)`,
//! `Type=notify-reload`). Where there is none, nothing happens.

/// What the server does from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It takes calls, by the configuration that was read last.
    Ready,
    /// It reads its configuration again; [`Self::Ready`] follows, whatever comes of that.
    Reloading,
    /// It ends.
    Stopping,
}

/// Tells it.
#[cfg(target_os = "linux")]
pub(crate) fn tell(phase: Phase) {
    use sd_notify::NotifyState;
    let told = match phase {
        Phase::Ready => sd_notify::notify(&[NotifyState::Ready]),
        // Without the time a manager takes the answer for one to an earlier question.
        Phase::Reloading => NotifyState::monotonic_usec_now()
            .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now])),
        Phase::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
    };
    if let Err(error) = told {
        tracing::warn!(%error, ?phase, "the service manager could not be told");
    }
}

/// Does nothing: this system has no systemd.
#[cfg(not(target_os = "linux"))]
pub fn tell(_: Phase) {}
