//! Ctrl-C, for commands that print a summary before they end.

/// Returns when Ctrl-C is pressed. If the signal cannot be handled, it ends the process as usual, and this waits forever.
pub async fn wait() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
