//! One client's HTTP/1.1 connection.
use super::{Worker, tcp::Accepted};
use std::sync::Arc;
pub(super) async fn serve(_accepted: Accepted, _worker: Arc<Worker>) {}
