//! Asks whether to serve the WSGI or the ASGI app of a project, if somebody is there to answer.

use std::io::{self, BufRead, IsTerminal as _, Write};

use super::found::AsgiToo;
use super::interface::Interface;

/// How often the question is asked.
const TRIES: usize = 3;

/// Returns the answer. None without a terminal, or without an answer.
pub(super) fn interface(asgi: &AsgiToo) -> Option<Interface> {
    let (from, to) = (io::stdin(), io::stderr());
    let is_there = from.is_terminal() && to.is_terminal();
    if is_there { ask(asgi, &mut from.lock(), &mut to.lock()).ok()? } else { None }
}

fn ask(asgi: &AsgiToo, from: &mut impl BufRead, to: &mut impl Write) -> io::Result<Option<Interface>> {
    let AsgiToo { wsgi_file, asgi_file, has_channels, .. } = asgi;
    let why = if *has_channels { ", which has more than HTTP" } else { "" };
    let usual = asgi.usual();
    let shown = if usual == Interface::Asgi { "asgi" } else { "wsgi" };
    writeln!(to, "The project has {} and {}{why}.", wsgi_file.display(), asgi_file.display())?;
    for _ in 0..TRIES {
        write!(
            to,
            "Serve it as WSGI or as ASGI, for async views and WebSockets? [wsgi/asgi, default: {shown}] "
        )?;
        to.flush()?;
        let mut answer = String::new();
        if from.read_line(&mut answer)? == 0 {
            return Ok(None);
        }
        match answer.trim().to_ascii_lowercase().as_str() {
            "" => return Ok(Some(usual)),
            "w" | "wsgi" => return Ok(Some(Interface::Open)),
            "a" | "asgi" => return Ok(Some(Interface::Asgi)),
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let mut asgi = AsgiToo {
            app: "shop.asgi:application".to_owned(),
            wsgi_file: "shop/wsgi.py".into(),
            asgi_file: "shop/asgi.py".into(),
            has_channels: true,
        };
        for (typed, expected, asked) in [
            ("\n", Some(Interface::Asgi), 1),
            ("wsgi\n", Some(Interface::Open), 1),
            ("ASGI\n", Some(Interface::Asgi), 1),
            ("what?\n a \n", Some(Interface::Asgi), 2),
            ("1\n2\n3\nasgi\n", None, 3),
            ("", None, 1),
        ] {
            let mut shown = Vec::new();
            assert_eq!(ask(&asgi, &mut typed.as_bytes(), &mut shown).unwrap(), expected, "{typed}");
            let shown = String::from_utf8(shown).unwrap();
            assert!(
                shown.starts_with(
                    "The project has shop/wsgi.py and shop/asgi.py, which has more than HTTP.\n"
                )
            );
            assert_eq!(shown.matches("[wsgi/asgi, default: asgi]").count(), asked, "{typed}");
        }
        asgi.has_channels = false;
        let mut shown = Vec::new();
        assert_eq!(ask(&asgi, &mut "\n".as_bytes(), &mut shown).unwrap(), Some(Interface::Open));
        assert!(String::from_utf8(shown).unwrap().contains("default: wsgi"));
    }
}
