//! A table of URLs and the sentences for them.

use super::*;

/// No sentence may show this.
const PASSWORD: &str = "hunter2";

#[test]
fn every_mistake_in_a_url_has_a_sentence_that_names_the_mend() {
    let begin = "must begin with amqp:// or amqps://";
    for (url, sentence) in [
        ("", begin),
        ("rabbit", begin),
        ("rabbit:5672", begin),
        ("u:hunter2@rabbit", begin),
        ("amqp:u:hunter2@rabbit", begin),
        ("rabbitmq://u:hunter2@rabbit", begin),
        ("hunter2://rabbit", begin),
        (
            "http://u:hunter2@rabbit:15672",
            "the management interface speaks http",
        ),
        ("amqp://u:hunter2/x@rabbit", "write %2F for /"),
        ("amqp://u:hunter2?x@rabbit", "write %3F for ?"),
        ("amqp://u:hunter2#x@rabbit", "write %23 for #"),
        (
            "amqp://u:hunter2@rabbit/v@w",
            "after the host write %40 for @",
        ),
        (
            "amqp://u:hunter2@x@rabbit",
            "has an @ in the user or the password: write %40",
        ),
        (
            "amqp://u:hunter2%@rabbit",
            "has a % that begins no escape: write %25",
        ),
        (
            "amqp://u:hunter2%zz@rabbit",
            "has a % that begins no escape: write %25",
        ),
        (
            "amqp://u:hunter2%ff@rabbit",
            "has escapes that are not UTF-8",
        ),
        ("amqp://u:hunter2@rabbit#hunter2", "write %23"),
        (
            "amqp://",
            "names no host; write amqp://user:password@host:5672/virtual-host",
        ),
        ("amqp://u:hunter2@", "names no host"),
        ("amqp://u:hunter2@:5672", "names no host"),
        ("amqp://u:hunter2@/vhost", "names no host"),
        ("amqp:///vhost", "names no host"),
        ("amqp://u:hunter2", "a user and a password end with @"),
        (
            "amqp://u:hunter2@rabbit:99999",
            "has a port that is no number from 1 to 65535",
        ),
        (
            "amqp://u:hunter2@rabbit:0",
            "has a port that is no number from 1 to 65535",
        ),
        ("amqp://u:hunter2@fe80::1", "write it as in [::1]:5672"),
        (
            "amqp://u:hunter2@[fe80::1",
            "has a host that cannot be read",
        ),
        ("amqp://u:hunter2@rab bit", "has a host that cannot be read"),
        ("amqp://u:hunter2\n@rabbit", "has a line break"),
        (
            "amqp://u:hunter2@rabbit/",
            "leave it out for the virtual host \"/\"",
        ),
        ("amqp://u:hunter2@rabbit//", "write %2F for it"),
        ("amqp://u:hunter2@rabbit/a/b", "write %2F for it"),
    ] {
        refuses(url, sentence);
    }
}

#[test]
fn no_parameter_of_a_url_is_swallowed() {
    for (query, sentence) in [
        (
            "cacertfile=/etc/ca.pem",
            "has the parameter cacertfile, which is not read: set broker.ca_file",
        ),
        (
            "heartbeat=5&verify=verify_peer",
            "the certificate is always verified",
        ),
        ("verify=verify_none", "the certificate is always verified"),
        ("certfile=/c.pem", "set broker.client_certificate_file"),
        ("password=hunter2", "a key without a passphrase"),
        ("connection_timeout=30000", "set broker.connect_timeout"),
        ("channel_max=5", "has the parameter channel_max"),
        ("heartbeet=5", "did you mean heartbeat?"),
        ("cacert_file=/c.pem", "did you mean cacertfile?"),
        (
            "hunter2=1",
            "there are heartbeat, frame_max, auth_mechanism",
        ),
        ("hunter2", "there are heartbeat, frame_max, auth_mechanism"),
        (
            "heartbeat=5&heartbeat=6",
            "has the parameter heartbeat twice",
        ),
        (
            "heartbeat=0",
            "expected a whole number of seconds from 1 to 65535",
        ),
        ("heartbeat=hunter2", "expected a whole number of seconds"),
        ("heartbeat", "expected a whole number of seconds"),
        (
            "frame_max=100",
            "expected a whole number of bytes from 4096 to 131072",
        ),
        ("frame_max=4000000000", "expected a whole number of bytes"),
        (
            "auth_mechanism=hunter2",
            "expected plain, amqplain, anonymous, or external",
        ),
    ] {
        refuses(&format!("amqps://u:hunter2@rabbit/v?{query}"), sentence);
    }
}

fn refuses(url: &str, sentence: &str) {
    let said = read(url).map(|_| ()).unwrap_err();
    assert!(said.contains(sentence), "{url}: {said}");
    assert!(!said.contains(PASSWORD), "{url}: {said}");
    assert_eq!(said.lines().count(), 1, "{url}: {said}");
}

#[test]
fn who_logs_in_by_a_certificate_needs_tls_and_one() {
    let judged = |scheme: &str, has_client_certificate| {
        let url = format!("{scheme}://rabbit?auth_mechanism=external");
        check_urls(&[Secret::new(url)], has_client_certificate)
    };
    assert_eq!(judged("amqps", true), Ok(()));
    let (_, said) = judged("amqps", false).unwrap_err();
    assert!(
        said.contains("set broker.client_certificate_file"),
        "{said}"
    );
    let (_, said) = judged("amqp", true).unwrap_err();
    assert!(said.contains("write amqps://"), "{said}");
}

#[test]
fn a_url_is_read_as_it_is_written() {
    for (url, user, password, host, port, vhost) in [
        ("amqp://rabbit", "guest", "guest", "rabbit", 5672, "/"),
        ("AMQPS://u:p@rabbit/%2F", "u", "p", "rabbit", 5671, "/"),
        (
            "amqp://u:%40%2f%3a%25%23@rabbit:1/a%2Fb",
            "u",
            "@/:%#",
            "rabbit",
            1,
            "a/b",
        ),
        ("amqp://u:a:b@[::1]:5000", "u", "a:b", "::1", 5000, "/"),
        ("amqp://u:p@10.0.0.1/v", "u", "p", "10.0.0.1", 5672, "v"),
    ] {
        let uri = read(url).unwrap();
        let login = uri.authority.userinfo;
        assert_eq!(
            (login.username.as_str(), login.password.as_str()),
            (user, password)
        );
        assert_eq!(
            (uri.authority.host.as_str(), uri.authority.port),
            (host, port)
        );
        assert_eq!(uri.vhost, vhost);
    }
}

#[test]
fn the_parameters_that_are_obeyed_reach_the_connection() {
    let url = "amqp://h?heartbeat=4&frame_max=8192&auth_mechanism=AMQPLAIN";
    let query = read(url).unwrap().query;
    assert_eq!((query.heartbeat, query.frame_max), (Some(4), Some(8192)));
    assert_eq!(query.auth_mechanism, Some(SASLMechanism::AMQPlain));
}
