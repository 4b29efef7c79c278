//! Signing keys from the environment: the only place that reads it.

use std::ffi::OsString;

use crate::verify::{SigningKeyError, SigningKeyProblem, SigningKeys};

const CURRENT: &str = "QSTASH_CURRENT_SIGNING_KEY";
const NEXT: &str = "QSTASH_NEXT_SIGNING_KEY";

impl SigningKeys {
    /// The keys in `QSTASH_CURRENT_SIGNING_KEY` and `QSTASH_NEXT_SIGNING_KEY`.
    ///
    /// Where `QSTASH_REGION` is set, which means that an account is moving between regions, the
    /// pairs of all regions are taken in as well: `US_EAST_1_QSTASH_CURRENT_SIGNING_KEY`,
    /// `US_EAST_1_QSTASH_NEXT_SIGNING_KEY`, `EU_CENTRAL_1_…` and so on; the plain pair may then be
    /// missing. A delivery may be signed with any of them; its `Upstash-Region` header is not signed
    /// and decides nothing. Labels are `current`, `next`, `US_EAST_1 current`, and so on.
    ///
    /// # Errors
    ///
    /// For each variable what [`new`](Self::new) refuses in an argument (empty, white space or
    /// quotation marks around it, a published development key), and one that is not set or not
    /// UTF-8. Of a region's pair both must be set or neither.
    pub fn from_env() -> Result<Self, SigningKeyError> {
        Self::from_variables(variables())
    }

    fn from_variables(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SigningKeyError> {
        let variables: Vec<_> = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect();
        let get =
            |name: &str| variables.iter().find(|(set, _)| set == name).map(|(_, value)| value);

        let mut prefixes = Vec::new();
        if get("QSTASH_REGION").is_some_and(|region| !region.is_empty()) {
            let regions = variables.iter().filter_map(|(name, _)| region(name));
            prefixes.extend(regions.map(|region| format!("{region}_")));
            prefixes.sort_unstable();
            prefixes.dedup();
        }
        let no_plain_pair = [CURRENT, NEXT].iter().all(|name| get(name).is_none());
        if prefixes.is_empty() || !no_plain_pair {
            prefixes.insert(0, String::new());
        }
        let mut pairs = prefixes.iter().map(|prefix| pair(prefix, get));
        let first = pairs.next().expect("there is a plain pair to look for, or a region's");
        pairs.try_fold(first?, |keys, more| Ok(keys.also(more?)))
    }
}

/// The pair in two variables with this prefix, such as `US_EAST_1_`.
fn pair<'a>(
    prefix: &str,
    get: impl Fn(&str) -> Option<&'a OsString>,
) -> Result<SigningKeys, SigningKeyError> {
    let names = [CURRENT, NEXT].map(|name| format!("{prefix}{name}"));
    let read = |name: &String| {
        let error = |problem| SigningKeyError { name: name.clone(), problem };
        let value = get(name).ok_or_else(|| error(SigningKeyProblem::Missing))?;
        value.to_str().ok_or_else(|| error(SigningKeyProblem::NotUnicode))
    };
    let [current, next] = &names;
    let keys = [read(current)?, read(next)?];
    let label = prefix.strip_suffix('_').map_or(String::new(), |region| format!("{region} "));
    SigningKeys::pair(&label, [current, next], keys)
}

/// `US_EAST_1` from `US_EAST_1_QSTASH_CURRENT_SIGNING_KEY`. Only what has the shape of a region:
/// `STAGING_QSTASH_CURRENT_SIGNING_KEY` is some other program's.
fn region(variable: &str) -> Option<&str> {
    let region =
        [CURRENT, NEXT].iter().find_map(|key| variable.strip_suffix(key)?.strip_suffix('_'))?;
    let (area, number) = region.rsplit_once('_')?;
    let words = |text: &str| {
        text.contains('_') && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (words(area) && digits(number)).then_some(region)
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn variables() -> std::env::VarsOs {
    std::env::vars_os()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<SigningKeys, SigningKeyError> {
        SigningKeys::from_variables(
            variables.iter().map(|&(name, value)| (name.into(), value.into())),
        )
    }

    fn refused(variables: &[(&str, &str)]) -> (String, SigningKeyProblem) {
        let SigningKeyError { name, problem } = from(variables).unwrap_err();
        (name, problem)
    }

    const PAIR: [(&str, &str); 2] = [(CURRENT, "sig_a"), (NEXT, "sig_b")];

    #[test]
    fn both_variables_are_taken() {
        assert_eq!(format!("{:?}", from(&PAIR).unwrap()), r#"SigningKeys["current", "next"]"#);
    }

    #[test]
    fn what_is_wrong_with_a_variable_is_said_with_its_name() {
        let missing = |name: &str| (name.to_owned(), SigningKeyProblem::Missing);
        assert_eq!(refused(&[]), missing(CURRENT));
        assert_eq!(refused(&[(CURRENT, "sig_a")]), missing(NEXT));
        assert_eq!(refused(&[(NEXT, "sig_b")]), missing(CURRENT));
        for (value, problem) in [
            ("", SigningKeyProblem::Empty),
            ("sig_b\n", SigningKeyProblem::WhiteSpace),
            ("\"sig_b\"", SigningKeyProblem::Quoted),
            ("sig_b'", SigningKeyProblem::Quoted),
            ("sig_7kYjw48mhY7kAjqNGcy6cr29RJ6r", SigningKeyProblem::Development),
        ] {
            assert_eq!(refused(&[(CURRENT, value), (NEXT, "sig_b")]), (CURRENT.into(), problem));
            assert_eq!(refused(&[(CURRENT, "sig_a"), (NEXT, value)]), (NEXT.into(), problem));
        }
        let text = from(&[]).unwrap_err().to_string();
        assert_eq!(
            text,
            "the environment variable QSTASH_CURRENT_SIGNING_KEY is not set; \
             set it to the signing key that the QStash console shows"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_unicode_is_said_to_be() {
        use std::os::unix::ffi::OsStringExt;
        let bad = OsString::from_vec(b"sig_\xFF".to_vec());
        let variables =
            [(CURRENT.into(), bad.clone()), (NEXT.into(), "sig_b".into()), (bad.clone(), bad)];
        let error = SigningKeys::from_variables(variables).unwrap_err();
        assert_eq!((error.name.as_str(), error.problem), (CURRENT, SigningKeyProblem::NotUnicode));
    }

    #[test]
    fn a_migration_takes_in_the_pairs_of_all_regions() {
        let regions = [
            ("US_EAST_1_QSTASH_CURRENT_SIGNING_KEY", "sig_c"),
            ("US_EAST_1_QSTASH_NEXT_SIGNING_KEY", "sig_d"),
            ("EU_CENTRAL_1_QSTASH_NEXT_SIGNING_KEY", "sig_f"),
            ("EU_CENTRAL_1_QSTASH_CURRENT_SIGNING_KEY", "sig_e"),
            // Somebody else's: not the shape of a region.
            ("STAGING_QSTASH_CURRENT_SIGNING_KEY", ""),
            ("MY_APP_QSTASH_CURRENT_SIGNING_KEY", ""),
            ("QSTASH_1_QSTASH_CURRENT_SIGNING_KEY", ""),
            ("US_EAST_1QSTASH_CURRENT_SIGNING_KEY", ""),
            ("US_EAST_X_QSTASH_CURRENT_SIGNING_KEY", ""),
            ("US_EAST__QSTASH_CURRENT_SIGNING_KEY", ""),
        ];
        let all = [&PAIR[..], &regions].concat();
        assert_eq!(format!("{:?}", from(&all).unwrap()), r#"SigningKeys["current", "next"]"#);
        let migrating = [&all[..], &[("QSTASH_REGION", "US_EAST_1")]].concat();
        let labels = [
            "current",
            "next",
            "EU_CENTRAL_1 current",
            "EU_CENTRAL_1 next",
            "US_EAST_1 current",
            "US_EAST_1 next",
        ];
        assert_eq!(format!("{:?}", from(&migrating).unwrap()), format!("SigningKeys{labels:?}"));
        let no_region = [&all[..], &[("QSTASH_REGION", "")]].concat();
        assert_eq!(format!("{:?}", from(&no_region).unwrap()), r#"SigningKeys["current", "next"]"#);

        let half = [&PAIR[..], &regions[..1], &[("QSTASH_REGION", "US_EAST_1")]].concat();
        let name = "US_EAST_1_QSTASH_NEXT_SIGNING_KEY".to_owned();
        assert_eq!(refused(&half), (name, SigningKeyProblem::Missing));
    }

    /// As the official SDK for TypeScript has it.
    #[test]
    fn in_a_migration_the_pairs_of_the_regions_will_do() {
        let region = [
            ("QSTASH_REGION", "US_EAST_1"),
            ("US_EAST_1_QSTASH_CURRENT_SIGNING_KEY", "sig_c"),
            ("US_EAST_1_QSTASH_NEXT_SIGNING_KEY", "sig_d"),
        ];
        assert_eq!(
            format!("{:?}", from(&region).unwrap()),
            r#"SigningKeys["US_EAST_1 current", "US_EAST_1 next"]"#
        );
        let half_a_plain_pair = [&region[..], &PAIR[..1]].concat();
        assert_eq!(refused(&half_a_plain_pair), (NEXT.into(), SigningKeyProblem::Missing));
        assert_eq!(refused(&region[..1]), (CURRENT.into(), SigningKeyProblem::Missing));
        assert_eq!(refused(&region[1..]), (CURRENT.into(), SigningKeyProblem::Missing));
    }
}
