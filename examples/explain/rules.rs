//! The rules, each checked on its own.

use std::error::Error;

use serde_json::{Map, Value};
use tower_qstash::{Signer, SigningKeys, Verifier, VerifyError};

use crate::{
    advice::{body_advice, compare, signature_advice},
    input::{Input, decode},
    time::system_time,
};

/// Signs copies of the token, so that every rule can be checked whichever key signed the token itself.
const OWN_KEY: &str = "sig_explain";

/// `{"alg":"HS256"}` in base64url.
const VALID_HEADER: &str = "eyJhbGciOiJIUzI1NiJ9";

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Verdict {
    Passed,
    Failed,
    NotChecked,
}

pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) verdict: Verdict,
    pub(crate) text: String,
    /// What to do if the rule failed, or what to pass so that it can be checked.
    pub(crate) advice: String,
}

pub(crate) struct Report {
    pub(crate) header: Map<String, Value>,
    pub(crate) claims: Map<String, Value>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) is_verified: bool,
}

impl Report {
    pub(crate) fn all_passed(&self) -> bool {
        self.rules.iter().all(|rule| rule.verdict == Verdict::Passed)
    }

    /// Adds a rule.
    fn rule(&mut self, name: &'static str, verdict: Verdict, text: &str, advice: &str) {
        self.rules.push(Rule { name, verdict, text: text.to_owned(), advice: advice.to_owned() });
    }

    /// Adds a rule that the crate has just applied.
    fn checked<T>(
        &mut self,
        name: &'static str,
        verdict: Result<T, VerifyError>,
        passed: &str,
        advice: &str,
    ) {
        match verdict {
            Ok(_) => self.rule(name, Verdict::Passed, passed, ""),
            Err(error) => self.rule(name, Verdict::Failed, &error.to_string(), advice),
        }
    }
}

/// Any URL, where the rule in question doesn't depend on it.
const ANY_URL: &str = "https://a.example";

const NOT_QSTASHS: &str = "QStash did not issue this token; find out who sent the request.";

/// Lets the crate apply each rule to a copy of the token in which everything else is valid.
pub(crate) fn check(input: &Input) -> Result<Report, Box<dyn Error>> {
    let mut report = Report {
        header: decode(&input.token, 0).unwrap_or_default(),
        claims: decode(&input.token, 1).unwrap_or_default(),
        rules: Vec::new(),
        is_verified: false,
    };
    let signer = Signer::new(OWN_KEY)?;
    let verifier = Verifier::new(SigningKeys::from_key(OWN_KEY)?);
    let Some(signed) = check_signature(input, &mut report, &verifier) else { return Ok(report) };
    if check_types(input, &mut report, &verifier, &signer, signed) {
        check_values(input, &mut report, &verifier, &signer);
    }
    Ok(report)
}

/// Checks the form of the token and its signature, and returns what is signed if it has the form of a
/// token.
fn check_signature<'a>(input: &'a Input, report: &mut Report, own: &Verifier) -> Option<&'a str> {
    let (token, at) = (&*input.token, system_time(input.at));
    let keys = input.keys.clone().map(Verifier::new);
    let verdict = keys.as_ref().unwrap_or(own).verify_token(token, ANY_URL, at).map(|_| ());
    let (form, mismatch) = match verdict {
        Err(
            VerifyError::TokenTooLong { .. }
            | VerifyError::NotThreeSegments
            | VerifyError::InvalidEncoding { segment: "signature", .. },
        ) => (verdict, Ok(())),
        Err(VerifyError::SignatureMismatch) => (Ok(()), verdict),
        _ => (Ok(()), Ok(())),
    };
    let advice = "Give the whole value of the header Upstash-Signature, which is three segments \
                  joined by dots.";
    let has_form = form.is_ok();
    report.checked("form", form, "three segments, the third of 32 bytes", advice);
    if !has_form {
        return None;
    }
    match keys {
        None => report.rule(
            "signature",
            Verdict::NotChecked,
            "no keys were given, so anyone may have written these claims",
            "Add --keys-from-env, with the receiver's environment, or --dev-server.",
        ),
        Some(keys) => {
            report.is_verified = mismatch.is_ok();
            let made_with = made_with(report, &keys, token);
            let advice = signature_advice(input, token, at);
            report.checked("signature", mismatch, &made_with, &advice);
        }
    }
    token.rsplit_once('.').map(|(signed, _)| signed)
}

/// Says which key made a valid signature. The crate returns its label only for a token that is valid
/// otherwise, so this takes the token's own URL and its last second.
fn made_with(report: &Report, keys: &Verifier, token: &str) -> String {
    let subject = report.claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    let expires_at = report.claims.get("exp").and_then(Value::as_i64).unwrap_or_default();
    let last_second = system_time(expires_at.saturating_sub(1));
    match keys.verify_token(token, subject, last_second) {
        Ok(token) if token.signed_with_next_key() => format!(
            "made with the key {:?}: the keys were rolled, so configure the new pair before the next roll",
            token.key_label()
        ),
        Ok(token) => format!("made with the key {:?}", token.key_label()),
        Err(_) => "made with one of the keys".into(),
    }
}

/// Checks the header, and the types of the claims. Returns whether the claims can be read at all.
fn check_types(
    input: &Input,
    report: &mut Report,
    own: &Verifier,
    signer: &Signer,
    signed: &str,
) -> bool {
    let verify = |segments: &str| {
        let token = signer.sign_segments(segments);
        own.verify_token(&token, ANY_URL, system_time(input.at)).map(|_| ())
    };
    let header = match verify(signed) {
        error @ Err(
            VerifyError::UnsupportedAlgorithm
            | VerifyError::CriticalHeader
            | VerifyError::InvalidEncoding { segment: "header", .. }
            | VerifyError::InvalidJson { segment: "header", .. },
        ) => error,
        _ => Ok(()),
    };
    report.checked("header", header, "alg is HS256, and there is no crit", NOT_QSTASHS);

    let (_, claims) = signed.split_once('.').unwrap_or_default();
    let (claims, can_be_read) = match verify(&format!("{VALID_HEADER}.{claims}")) {
        error @ Err(VerifyError::InvalidEncoding { .. } | VerifyError::InvalidJson { .. }) => {
            (error, false)
        }
        error @ Err(VerifyError::MissingClaim { .. } | VerifyError::InvalidClaim { .. }) => {
            (error, true)
        }
        _ => (Ok(()), true),
    };
    report.checked("claims", claims, "a JSON object with the right types", NOT_QSTASHS);
    can_be_read
}

/// Checks each claim in a delivery that is valid but for this one.
fn check_values(input: &Input, report: &mut Report, own: &Verifier, signer: &Signer) {
    let at = system_time(input.at);
    let claims = report.claims.clone();
    let verify = |claim: &str, url: &str, body: &[u8]| {
        let delivery = signer.delivery(url, body, at);
        let delivery = match claims.get(claim) {
            Some(value) => delivery.claim(claim, value.clone()),
            None => delivery.without_claim(claim),
        };
        own.verify(&delivery.token(), url, body, at)
    };

    report.checked("issuer", verify("iss", ANY_URL, b""), "iss is Upstash", NOT_QSTASHS);

    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    match input.url.as_deref().map(|url| (url, verify("sub", url, b""))) {
        Some((url, Ok(_))) => {
            let equal = url == subject;
            let text = if equal { "sub is the URL" } else { "sub is equivalent to the URL" };
            report.rule("destination", Verdict::Passed, text, "");
        }
        Some((url, Err(error))) => {
            let (comparison, advice) = compare(subject, url);
            report.rule("destination", Verdict::Failed, &format!("{error}\n{comparison}"), &advice);
        }
        None => report.rule(
            "destination",
            Verdict::NotChecked,
            "no URL was given",
            "Add --url with the URL that the receiver expects: expected_url in its log.",
        ),
    }

    let advice = "This machine's clock is slow, or --at is too early; set the clock, or allow for a \
                  few seconds with clock_tolerance.";
    report.checked(
        "not before",
        verify("nbf", ANY_URL, b""),
        "the time is at or after nbf",
        advice,
    );
    let issued_at = claims.get("iat").map_or(String::new(), Value::to_string);
    let advice = format!(
        "A token is valid for five minutes: if this one was fresh, set this machine's clock; to check \
         an old one, add --at {issued_at}."
    );
    report.checked("expiry", verify("exp", ANY_URL, b""), "the time is before exp", &advice);

    match &input.body {
        Some(body) => {
            let advice = body_advice(body, |body| verify("body", ANY_URL, body).is_ok());
            let verdict = verify("body", ANY_URL, body);
            report.checked("body", verdict, "its SHA-256 is the claim body", &advice);
        }
        None => report.rule(
            "body",
            Verdict::NotChecked,
            "no body was given",
            "Add --body with the raw body, or --body @FILE.",
        ),
    }
}
