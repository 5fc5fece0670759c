//! The path of one request: what is known about it becomes a visit, which is routed to a site, whose action
//! answers it. Then the response is finished.

mod room;

use http::{Method, Request, Response, Version};
use http_body::Body as _;

use crate::action::Resources;
use crate::action::reply::{self, Details, Reply, SiteLink};
use crate::body::Body;
use crate::body::request::{Incoming, RequestBody};
use crate::finish::{Answer, Routed, finish};
use crate::settings::Settings;
use crate::site::Sites;
use crate::visit::authority::AuthorityError;
use crate::visit::client::Client;
use crate::visit::url_path::{self, TooLong};
use crate::visit::violation::Violation;
use crate::visit::websocket::{self, Asked};
use crate::visit::{Access, Visit};

/// Responds to the requests of one shard.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) settings: Settings,
    pub(crate) sites: Sites,
    pub(crate) resources: Resources,
}

impl Service {
    /// Responds to `request`.
    pub(crate) async fn respond<B: Incoming>(&self, client: &Client, request: Request<B>) -> Response<Body> {
        let access = self.settings.access_log().then(|| Access::new(client, &request));
        let violation = client.refusal().of(&request);
        let (head, body) = request.into_parts();
        let (mut visit, host) = Visit::new(client, head, access);
        let mut body = RequestBody::new(body, &self.settings.read().limits);
        let (routed, answer) = match violation {
            Some(violation) => (Routed::Not, Answer::RefusedByGuard(violation)),
            None => self.answer(&mut visit, host, &mut body).await,
        };
        self.read_rest(&visit, body);
        finish(&self.resources.metrics, visit, &routed, answer)
    }

    /// Refuses a plain HTTP request on a TLS port.
    pub(crate) fn refuse_plain<B>(&self, client: &Client, request: Request<B>) -> Response<Body> {
        let violation = client.refusal().of(&request);
        let (visit, _) = Visit::new(client, request.into_parts().0, None);
        let (routed, answer) = match violation {
            Some(violation) => (Routed::Not, Answer::RefusedByGuard(violation)),
            None => (Routed::Nowhere, Answer::Refused(Reply::PlainHttp, https_url(&visit))),
        };
        finish(&self.resources.metrics, visit, &routed, answer)
    }

    async fn answer<B: Incoming>(
        &self,
        visit: &mut Visit<'_>,
        host: Result<(), AuthorityError>,
        body: &mut RequestBody<B>,
    ) -> (Routed, Answer) {
        if let Err(TooLong) = url_path::normalize(&mut visit.head.uri) {
            return (Routed::Not, Reply::Malformed(Violation::TargetTooLong).into());
        }
        if let Some(handshake) = websocket::handshake(&mut visit.head) {
            let send_timeout = self.settings.read().limits.send_timeout;
            visit.websocket = Some(Box::new(Asked { handshake, send_timeout }));
        }
        let (visit, path) = (&*visit, visit.head.uri.path());
        if let Err(reply) = self.check(visit, host) {
            return (Routed::Nowhere, reply.into());
        }
        if visit.head.method == Method::OPTIONS && path == "*" {
            return (Routed::Not, Answer::Response(reply::options()));
        }
        let site = match self.sites.find(visit.authority.host(), path).await {
            Ok(site) => site,
            Err(reply) => return (Routed::Nowhere, self.not_found(visit, reply)),
        };
        let send_timeout = || self.settings.read().limits.send_timeout;
        let answered = match site.action(path) {
            _ if !room::has_room(send_timeout, visit.client).await => Err(Reply::Overloaded),
            Some((action, rest)) => action.respond(&self.resources, visit, rest, body).await,
            None => Err(Reply::NoApp),
        };
        let answered = match answered {
            // It failed while the request was waiting. What routed the request doesn't know why, but the present table does.
            Err(Reply::AppFailed) if self.resources.mode.is_development() => {
                let table = self.sites.table();
                let action = table.route(visit.authority.host(), path).and_then(|it| it.action(path));
                action.and_then(|it| it.0.start_failure(&self.resources, visit)).ok_or(Reply::AppFailed)
            }
            answered => answered,
        };
        (Routed::To(site), answered.into())
    }

    /// Checks what must hold before a request can be routed. `head_guard` has already checked the header
    /// fields of HTTP/1.1.
    fn check(&self, visit: &Visit<'_>, host: Result<(), AuthorityError>) -> Result<(), Reply> {
        let head = &visit.head;
        if head.version == Version::HTTP_2 {
            let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
            let mut size = head.uri.path_and_query().map_or(0, |it| it.as_str().len());
            for (name, value) in &head.headers {
                let value = value.as_bytes();
                if is_space(value.first()) || is_space(value.last()) {
                    return Err(Reply::BadField);
                }
                size += name.as_str().len() + value.len();
            }
            if size > self.settings.read().limits.header_bytes {
                return Err(Reply::Malformed(Violation::HeadTooLong));
            }
        }
        if head.method == Method::CONNECT {
            return Err(Reply::NoTunnel);
        }
        Ok(host?)
    }

    /// A developer sees which sites there are.
    fn not_found(&self, visit: &Visit<'_>, reply: Reply) -> Answer {
        match reply {
            Reply::NoApp if self.resources.mode.is_development() => {
                Answer::Refused(reply, Details::Sites(self.site_links(visit)))
            }
            reply => reply.into(),
        }
    }

    /// All sites with the URLs that the client can use, for developers.
    fn site_links(&self, visit: &Visit<'_>) -> Vec<SiteLink> {
        let scheme = if visit.client.connection().tls { "https" } else { "http" };
        let port = visit.authority.port.map_or_else(String::new, |it| format!(":{it}"));
        let link = |(domain, mount): (&str, &str)| {
            let url = (!domain.contains('*')).then(|| format!("{scheme}://{domain}{port}{mount}/"));
            SiteLink { name: format!("{domain}{mount}"), url }
        };
        self.sites.table().addresses().into_iter().map(link).collect()
    }

    /// Reads what the client still sends of a body that nobody needs.
    fn read_rest<B: Incoming>(&self, visit: &Visit<'_>, body: RequestBody<B>) {
        // An HTTP/1.1 client that expects `100 Continue` hasn't started to send its body.
        let sends = visit.head.version == Version::HTTP_2 || !visit.expects_continue();
        if sends && !body.is_end_stream() {
            self.resources.tasks.spawn(body.linger());
        }
    }
}

/// The URL that a client should have used instead of plain HTTP.
fn https_url(visit: &Visit<'_>) -> Details {
    if visit.authority.host.is_empty() {
        return Details::Nothing;
    }
    let target = visit.head.uri.path_and_query().map_or("/", |it| it.as_str());
    Details::Url(format!("https://{}{target}", String::from_utf8_lossy(&visit.authority.text)))
}
