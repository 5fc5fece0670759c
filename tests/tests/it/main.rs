//! The stack as a whole: real daemons, real apps; a subject a file.

mod bad_apps;
mod bodies;
mod client_gone;
mod command;
mod crash;
mod dispatch;
mod failing;
mod gate;
mod health;
mod life;
mod preload;
mod pythons;
mod recycling;
mod scaling;
mod serving;
mod signals;
mod startup;
mod static_files;
mod threads;
mod timeouts;
mod vassals;
mod wire;
mod wsgi;
