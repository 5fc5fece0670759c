//! The stack as a whole: real daemons, real apps; a subject a file.

mod bad_apps;
mod bodies;
mod command;
mod crash;
mod dispatch;
mod failing;
mod gate;
mod life;
mod pythons;
mod scaling;
mod serving;
mod static_files;
mod timeouts;
mod vassals;
mod wire;
mod wsgi;
