//! What happens to emperord, as events for the driver; the driver's replies and commands.

mod admin;
mod event;
mod status;
mod worker;

pub use admin::AdminError;
pub use event::{Event, Events, LookupId, OrderId, Reply, WatchId};
pub use status::{AppStatus, Recycled, Status, WorkerStatus};
pub use worker::{Attaching, AttachmentId, Command, Load, Served, SpecError, Taking};
