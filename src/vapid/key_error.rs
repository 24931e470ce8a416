//! Why something is not an application server key, in the sentence of its form.

/// Why something is not an application server key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing, or only white space.
    #[error("the VAPID key is empty; `pushrider keys generate` makes one")]
    Empty,
    /// None of the forms that keys are written in.
    #[error(
        "this is no VAPID key in a known form; expected PEM, DER, a JWK, or the 43 characters of \
         base64url that `web-push generate-vapid-keys` prints"
    )]
    Unrecognised,
    /// PEM that cannot be read to its end.
    #[error("the PEM text of the VAPID key is damaged: expected only base64 between BEGIN and END")]
    Pem,
    /// PEM of something else.
    #[error(
        "the PEM text holds no private key; expected BEGIN PRIVATE KEY or BEGIN EC PRIVATE KEY"
    )]
    NoPrivateKey,
    /// The format of OpenSSH.
    #[error(
        "this is a key in the format of OpenSSH; `ssh-keygen -p -N '' -m PKCS8 -f COPY` rewrites a \
         copy of it in place"
    )]
    OpenSsh,
    /// What OpenSSL prints for people.
    #[error("this is what `openssl -text` prints for people; give the PEM text, from BEGIN to END")]
    OpenSslText,
    /// Protected by a passphrase.
    #[error(
        "the VAPID key is encrypted with a passphrase; decrypt it with `openssl pkey -in KEY -out \
         PLAIN` and let file permissions protect it"
    )]
    Encrypted,
    /// The other half.
    #[error("this is a public key; signing needs the private key it belongs to")]
    PublicKey,
    /// A certificate.
    #[error("this is a certificate; VAPID needs a bare private key on P-256")]
    Certificate,
    /// A private key for another algorithm; says which.
    #[error(
        "this is a private key for {0}; VAPID signs with P-256 only (RFC 8292 §2): \
         `pushrider keys generate` makes such a key"
    )]
    Algorithm(&'static str),
    /// Text that begins as JSON and is none.
    #[error("this begins as JSON and cannot be read as JSON; a key in JSON must be complete")]
    Json,
    /// JSON without a member for the private key.
    #[error(
        "this JSON has no member for a private key; expected \"privateKey\", as in what `web-push \
         generate-vapid-keys --json` prints, or \"d\" of a JWK"
    )]
    JsonMember,
    /// More than one private key where one is wanted.
    #[error("this text names more than one private key; keep the one that is meant")]
    Several,
    /// base64 or hex of something else; carries the decoded length.
    #[error(
        "the VAPID key decodes to {0} bytes; a raw private key has 32 (43 characters of base64url)"
    )]
    Length(usize),
    /// 32 bytes that are no private key.
    #[error("the 32 bytes of the VAPID key are not a number from 1 to the order of P-256")]
    NotScalar,
    /// A public key beside it that is not its own.
    #[error(
        "the public key that is written beside the private key belongs to another private key; \
         restore the pair from where it was made"
    )]
    OtherHalf,
    /// DER that no reading makes sense of.
    #[error(
        "the VAPID key is damaged, or its public part belongs to another private key; restore it \
         from where it was made"
    )]
    Rejected,
    /// The cryptography library could not do its part.
    #[error("the cryptography library failed to make or write a VAPID key")]
    Library,
}
