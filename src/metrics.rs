//! The router's figures, for `/metrics` (Prometheus text). One registry per running router.

/// Counters and histograms; clones share them. Label values are participant ids, fault codes and results only.
#[derive(Clone, Default)]
pub struct Metrics {}

impl Metrics {
    /// A message was judged: `result` is `accepted`, `refused`, `repeat` or `conflict`.
    pub fn message(&self, _result: &'static str) {}
    /// A fault was reported to a sender or recorded with a delivery.
    pub fn fault(&self, _code: &'static str) {}
    /// An attempt ended: `result` as in the attempt's row.
    pub fn attempt(&self, _participant: &str, _result: &str, _seconds: f64) {}
    /// A sender got its reply after this long.
    pub fn replied(&self, _status: u16, _seconds: f64) {}
    /// A participant's breaker opened or closed.
    pub fn breaker(&self, _participant: &str, _open: bool) {}
    /// Prometheus text format.
    pub fn render(&self) -> String {
        String::new()
    }
}
