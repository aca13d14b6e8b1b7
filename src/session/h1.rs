//! One client's HTTP/1.1 connection.
use std::sync::Arc;
use super::{Worker, tcp::Accepted};
pub(super) async fn serve(_accepted: Accepted, _worker: Arc<Worker>) {}
