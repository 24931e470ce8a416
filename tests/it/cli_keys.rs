//! `pushrider keys`, as an operator runs it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use pushrider::subscription::decode_base64;

use crate::cli_check::{configured, pushrider, text};

#[test]
fn a_new_key_belongs_to_its_owner_alone_and_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vapid.pem");
    let arguments = ["keys", "generate", "--out", path.to_str().unwrap()];
    let output = pushrider(&arguments, &[]);
    assert!(output.status.success(), "{output:?}");
    let point = decode_base64(text(&output.stdout)).unwrap();
    assert_eq!((point.len(), point[0]), (65, 4));
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o600
    );
    let pem = fs::read(&path).unwrap();
    assert!(text(&pem).starts_with("-----BEGIN PRIVATE KEY-----\n"));

    let again = pushrider(&arguments, &[]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(
        text(&again.stderr).contains("exists and is left alone"),
        "{again:?}"
    );
    assert_eq!(fs::read(&path).unwrap(), pem);
}

#[test]
fn a_new_key_goes_to_standard_output_where_no_file_is_wanted() {
    let output = pushrider(&["keys", "generate", "--out", "-"], &[]);
    assert!(output.status.success(), "{output:?}");
    let pem = text(&output.stdout);
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{pem}");
    assert!(!fs::exists("-").unwrap(), "no file of that name");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vapid.pem");
    fs::write(&path, pem).unwrap();
    let public = pushrider(&["keys", "public", "--key", path.to_str().unwrap()], &[]);
    let told = text(&output.stderr);
    assert!(told.contains(text(&public.stdout).trim()), "{told}");
}

#[test]
fn a_public_key_has_three_forms() {
    let (folder, file) = configured("");
    let key = folder.path().join("main.pem");
    for source in [["--key", key.to_str().unwrap()], ["--config", &file]] {
        let show = |format: &[&str]| {
            let output = pushrider(&[&["keys", "public"], &source[..], format].concat(), &[]);
            assert!(output.status.success(), "{output:?}");
            output.stdout
        };
        let base64url = show(&[]);
        let line = text(&base64url).strip_suffix('\n').unwrap();
        assert_eq!((line.len(), line.contains(['=', '+', '/'])), (87, false));
        assert_eq!(show(&["--format", "base64url"]), base64url);
        assert_eq!(show(&["--format", "raw"]), decode_base64(line).unwrap());
        let js = show(&["--format", "js"]);
        let expected = format!(
            "registration.pushManager.subscribe({{ userVisibleOnly: true, applicationServerKey: \
             \"{line}\" }})\n"
        );
        assert_eq!(text(&js), expected);
    }
}

#[test]
fn among_several_applications_one_must_be_named() {
    let (_folder, file) = configured("[apps.news]\nsubject = \"mailto:push@news.org\"\n");
    let ask = ["keys", "public", "--config", &file];
    let output = pushrider(&ask, &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let expected = "error: name the application with --app: news, shop\n";
    assert_eq!(text(&output.stderr), expected);
    let output = pushrider(&[&ask[..], &["--app", "news"]].concat(), &[]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn what_is_no_key_is_not_repeated() {
    let (folder, _) = configured("");
    let path = folder.path().join("not-a-key");
    fs::write(&path, "hunter2").unwrap();
    let output = pushrider(&["keys", "public", "--key", path.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(!text(&output.stderr).contains("hunter2"), "{output:?}");
}
