//! Opens WebSockets to an app one after the other, and records what became of each.

use std::collections::HashMap;
use std::time::Duration;

use ::tests::client::Client;
use ::tests::echoes::{self, Ended};
use ::tests::websocket::{OpenError, Received, WebSocket};
use fastrand::Rng;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::book::Book;
use super::site::App;
use super::talk::{Fate, Session, Talk};

/// A handshake without a response counts as lost after this time, like a request.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest pause between two WebSockets, and between two messages of a chat.
const PAUSE_MILLISECONDS: u64 = 100;

/// A client.
pub(crate) struct Talker {
    app: App,
    client: Client,
    book: Book,
    random: Rng,
}

/// Which conversations a client has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Habit {
    /// Random ones that end by themselves, and are silent for that long at most.
    Varied(Duration),
    /// Endless ones.
    Endless,
}

impl Talker {
    pub(crate) fn new(app: App, client: Client, book: Book, random: Rng) -> Self {
        Self { app, client, book, random }
    }

    /// Opens WebSockets until it is stopped.
    pub(crate) async fn run(mut self, habit: Habit, stop: watch::Receiver<bool>) -> Vec<Session> {
        let mut sessions = Vec::new();
        while !*stop.borrow() {
            let talk = match habit {
                Habit::Varied(longest_idle) => Talk::any(&mut self.random, longest_idle),
                Habit::Endless => Talk::Endless,
            };
            sessions.push(self.talk(talk, &stop).await);
            sleep(Duration::from_millis(self.random.u64(..PAUSE_MILLISECONDS))).await;
        }
        sessions
    }

    async fn talk(&mut self, talk: Talk, stop: &watch::Receiver<bool>) -> Session {
        let (id, sent) = (self.book.number(), self.book.now());
        let path = format!("{}?id={id}", talk.path());
        let (messages, fate) = match timeout(TIMEOUT, WebSocket::open(&self.client, &path)).await {
            Ok(Ok(mut socket)) => {
                let (messages, ended) = self.converse(talk, id, &mut socket, stop).await;
                (messages, Fate::Opened(ended))
            }
            Ok(Err(OpenError::Refused { status, .. })) => (0, Fate::Refused(status)),
            Ok(Err(OpenError::NoResponse(error))) => (0, Fate::NoResponse(format!("{error:#}").into())),
            Err(_) => (0, Fate::NoResponse(format!("none within {TIMEOUT:?}").into())),
        };
        let (app, protocol, done) = (self.app, self.client.protocol(), self.book.now());
        Session { id, app, protocol, talk, sent, done, messages, fate }
    }

    async fn converse(
        &mut self,
        talk: Talk,
        id: u64,
        socket: &mut WebSocket,
        stop: &watch::Receiver<bool>,
    ) -> (u64, Ended) {
        let never = || false;
        let random = &mut self.random;
        match talk {
            Talk::Echo(count) => echoes::exchange(socket, id, count, random, never).await,
            Talk::Endless => echoes::exchange(socket, id, u64::MAX, random, || *stop.borrow()).await,
            Talk::Idle(time) => match silence(socket, time, stop).await {
                None => echoes::exchange(socket, id, 1, random, never).await,
                Some(ended) => (0, ended),
            },
            Talk::Chat(count) => {
                let mut chat = Chat { id, heard: HashMap::new() };
                let ended = chat.take_part(socket, count, random).await;
                (chat.heard.values().sum(), ended)
            }
        }
    }
}

/// Waits for that long, or until the soak is stopped. Returns what ended the WebSocket meanwhile.
async fn silence(socket: &mut WebSocket, time: Duration, stop: &watch::Receiver<bool>) -> Option<Ended> {
    let mut stop = stop.clone();
    let wait = async {
        let _dropped = timeout(time, stop.wait_for(|it| *it)).await;
    };
    tokio::select! {
        () = wait => None,
        received = socket.receive() => Some(match received {
            Ok(Received::Close(code)) => {
                let _it_may_be_gone = socket.send_close(code.unwrap_or(1000)).await;
                Ended::Closed(code)
            }
            Ok(other) => Ended::Wrong(format!("{other:?} though nothing was sent")),
            Err(error) => Ended::Cut(format!("{error:#}")),
        }),
    }
}

/// A member of a chat, whose members are all connected to the same worker. Each message is `ID:NUMBER`.
struct Chat {
    id: u64,
    /// By member, the last number.
    heard: HashMap<u64, u64>,
}

impl Chat {
    async fn take_part(&mut self, socket: &mut WebSocket, count: u64, random: &mut Rng) -> Ended {
        self.speak_and_listen(socket, count, random).await.err().unwrap_or(Ended::Complete)
    }

    async fn speak_and_listen(
        &mut self,
        socket: &mut WebSocket,
        count: u64,
        random: &mut Rng,
    ) -> Result<(), Ended> {
        for number in 1..=count {
            if let Err(error) = socket.send_text(&format!("{}:{number}", self.id)).await {
                self.listen(socket, u64::MAX).await?;
                return Err(Ended::Cut(format!("{error:#}")));
            }
            self.listen(socket, number).await?;
            sleep(Duration::from_millis(random.u64(..PAUSE_MILLISECONDS))).await;
        }
        self.leave(socket).await
    }

    /// Listens until the client's own message with that number has come.
    async fn listen(&mut self, socket: &mut WebSocket, number: u64) -> Result<(), Ended> {
        while self.heard.get(&self.id).is_none_or(|last| *last < number) {
            self.hear(echoes::receive(socket).await?)?;
        }
        Ok(())
    }

    /// Others may speak until the server has confirmed the close.
    async fn leave(&mut self, socket: &mut WebSocket) -> Result<(), Ended> {
        let sent = socket.send_close(1000).await;
        loop {
            match echoes::receive(socket).await {
                Ok(received) => self.hear(received)?,
                Err(Ended::Closed(Some(1000))) => return Ok(()),
                Err(Ended::Cut(cut)) => {
                    let why = sent.err().map_or(cut, |error| format!("{error:#}"));
                    return Err(Ended::Cut(why));
                }
                Err(ended) => return Err(ended),
            }
        }
    }

    /// Every member's messages come in order, each once.
    fn hear(&mut self, received: Received) -> Result<(), Ended> {
        let Received::Text(text) = received else { return Err(Ended::Wrong(format!("{received:?}"))) };
        let pair =
            text.split_once(':').and_then(|(id, number)| Some((id.parse().ok()?, number.parse().ok()?)));
        let Some((id, number)): Option<(u64, u64)> = pair else { return Err(Ended::Wrong(text)) };
        match self.heard.insert(id, number) {
            Some(last) if last + 1 != number => Err(Ended::Wrong(format!("{text} after {last}"))),
            None if id == self.id && number != 1 => Err(Ended::Wrong(format!("{text} at first"))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_repeated_message_is_noticed() {
        let hear = |texts: &[&str]| {
            let mut chat = Chat { id: 7, heard: HashMap::new() };
            texts.iter().try_for_each(|it| chat.hear(Received::Text((*it).to_owned())))
        };
        assert_eq!(hear(&["7:1", "8:4", "7:2", "8:5", "9:1"]), Ok(()));
        for wrong in [&["7:2"][..], &["7:1", "7:3"], &["8:4", "8:4"], &["8:5", "8:4"], &["x"], &["7:1:2"]] {
            assert!(hear(wrong).is_err(), "{wrong:?}");
        }
    }
}
