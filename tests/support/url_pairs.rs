//! Pairs of URLs with the reason why they are equivalent or different. The tests check both tables,
//! and the fuzzers start from them.

/// The claim `sub` and the public URL of the request.
pub(crate) type Pair = (&'static str, &'static str);

pub(crate) const EQUIVALENT: &[Pair] = &[
    // The same text, as in almost every delivery.
    ("https://api.example.com/hooks/resize", "https://api.example.com/hooks/resize"),
    ("https://api.example.com/hooks?a=1&b=2", "https://api.example.com/hooks?a=1&b=2"),
    // The default port, written out when publishing or in a proxy's configuration.
    ("https://api.example.com:443/a", "https://api.example.com/a"),
    ("http://api.example.com:80/a", "http://api.example.com/a"),
    ("https://api.example.com:/a", "https://api.example.com/a"),
    ("https://api.example.com:0443/a", "https://api.example.com/a"),
    // Another port: a tunnel, the local development server.
    ("http://localhost:3000/webhook", "http://localhost:3000/webhook"),
    ("http://127.0.0.1:3000/webhook", "http://127.0.0.1:3000/webhook"),
    // The case of scheme and host doesn't matter: RFC 3986 §6.2.2.1.
    ("https://API.Example.COM/a", "https://api.example.com/a"),
    ("HTTPS://api.example.com/a", "https://api.example.com/a"),
    // An empty path is `/`: RFC 3986 §6.2.3. Browsers show the URL without the slash.
    ("https://api.example.com", "https://api.example.com/"),
    ("https://api.example.com?a=1", "https://api.example.com/?a=1"),
    ("https://api.example.com:443", "https://api.example.com/"),
    // One slash at the end of the path doesn't count, since clients add and drop it.
    ("https://api.example.com/hooks/", "https://api.example.com/hooks"),
    ("https://api.example.com/hooks", "https://api.example.com/hooks/"),
    ("https://api.example.com/hooks/?a=1", "https://api.example.com/hooks?a=1"),
    // Percent-encoding of unreserved characters: RFC 3986 §6.2.2.2. Python's `quote` used to encode
    // `~`.
    ("https://api.example.com/%7Euser", "https://api.example.com/~user"),
    ("https://api.example.com/a%2Db%2Ec%5Fd", "https://api.example.com/a-b.c_d"),
    ("https://api.example.com/%61bc", "https://api.example.com/abc"),
    // The case of hex digits doesn't matter: RFC 3986 §6.2.2.1. Go writes upper case, and curl
    // sends what was typed.
    ("https://api.example.com/a%c3%a9", "https://api.example.com/a%C3%A9"),
    ("https://api.example.com/a%2fb", "https://api.example.com/a%2Fb"),
    // Characters not allowed in a URL are equal to their encoding, since HTTP APIs decode
    // `rawPath`.
    ("https://api.example.com/a%20b", "https://api.example.com/a b"),
    ("https://api.example.com/caf%C3%A9", "https://api.example.com/café"),
    ("https://api.example.com/100%25", "https://api.example.com/100%"),
    // Queries: the same text or the same decoded pairs. REST and ALB events lose the order of
    // names, and re-encode values.
    ("https://api.example.com/a?b=1&c=2", "https://api.example.com/a?c=2&b=1"),
    ("https://api.example.com/a?x=1&y=2&x=3", "https://api.example.com/a?y=2&x=1&x=3"),
    ("https://api.example.com/a?q=a+b", "https://api.example.com/a?q=a%20b"),
    ("https://api.example.com/a?q=%7E", "https://api.example.com/a?q=~"),
    ("https://api.example.com/a?q=a%2Cb", "https://api.example.com/a?q=a,b"),
    ("https://api.example.com/a?q=caf%C3%A9", "https://api.example.com/a?q=café"),
    ("https://api.example.com/a?u=https%3A%2F%2Fb", "https://api.example.com/a?u=https://b"),
    ("https://api.example.com/a?flag", "https://api.example.com/a?flag="),
    // A missing and an empty query, which Lambda's `rawQueryString` doesn't distinguish.
    ("https://api.example.com/a?", "https://api.example.com/a"),
    ("https://api.example.com/a?&", "https://api.example.com/a?"),
    ("https://api.example.com/a?b=1&", "https://api.example.com/a?b=1"),
    // Fragments are never sent: RFC 9110 §7.1.
    ("https://api.example.com/a#top", "https://api.example.com/a"),
    ("https://api.example.com/a?b=1#top", "https://api.example.com/a?b=1"),
    // IPv6 literals: RFC 3986 §3.2.2.
    ("http://[::1]:3000/a", "http://[::1]:3000/a"),
    ("https://[2001:DB8::1]/a", "https://[2001:db8::1]:443/a"),
    // The same user information on both sides.
    ("https://user:pass@api.example.com/a", "https://user:pass@api.example.com:443/a"),
    // Unicode and punycode hosts, compared as written.
    ("https://bücher.example/a", "https://bücher.example/a"),
    ("https://xn--bcher-kva.example/a", "https://XN--bcher-kva.example/a"),
    // Text that isn't a URL is equal to itself: `Verifier` takes any text.
    ("queue:resize", "queue:resize"),
];

pub(crate) const DIFFERENT: &[Pair] = &[
    // Another scheme: TLS ends at a proxy, and `http` is configured.
    ("https://api.example.com/a", "http://api.example.com/a"),
    ("http://api.example.com:443/a", "https://api.example.com/a"),
    // Another port, such as the one behind the proxy, or the other scheme's default.
    ("https://api.example.com:8443/a", "https://api.example.com/a"),
    ("https://api.example.com:80/a", "https://api.example.com/a"),
    ("https://api.example.com:4430/a", "https://api.example.com:443/a"),
    // Invalid ports: typos, and a number that overflows to 443.
    ("https://api.example.com:65979/a", "https://api.example.com:443/a"),
    ("https://api.example.com:+443/a", "https://api.example.com/a"),
    ("https://api.example.com:４４３/a", "https://api.example.com/a"),
    // Another host: the apex for a subdomain, a final dot, a typo, an encoded character.
    ("https://example.com/a", "https://api.example.com/a"),
    ("https://api.example.com./a", "https://api.example.com/a"),
    ("https://api.example.co/a", "https://api.example.com/a"),
    ("https://api%2Eexample.com/a", "https://api.example.com/a"),
    // Prefix attacks on the host.
    ("https://api.example.com.evil.org/a", "https://api.example.com/a"),
    ("https://api.example.com@evil.org/a", "https://api.example.com/a"),
    ("https://evil.org/https://api.example.com/a", "https://api.example.com/a"),
    ("https://evil.org?https://api.example.com/a", "https://api.example.com/a"),
    ("https://evil.org#@api.example.com/a", "https://api.example.com/a"),
    (r"https://evil.org\@api.example.com/a", "https://api.example.com/a"),
    ("https://api.example.com:443@evil.org/a", "https://api.example.com/a"),
    ("https://api.example.com%2F@evil.org/a", "https://api.example.com/a"),
    // Prefix attacks on the path.
    ("https://api.example.com/hooks", "https://api.example.com/hooks-admin"),
    ("https://api.example.com/hooks", "https://api.example.com/hooks/admin"),
    ("https://api.example.com/hooks/admin", "https://api.example.com/hooks"),
    ("https://api.example.com", "https://api.example.com/hooks"),
    // Only a single slash at the end of the path is ignored.
    ("https://api.example.com/hooks//", "https://api.example.com/hooks"),
    ("https://api.example.com//hooks", "https://api.example.com/hooks"),
    ("https://api.example.com/a//b", "https://api.example.com/a/b"),
    // Paths are compared exactly: case, dot segments, delimiters.
    ("https://api.example.com/Hooks", "https://api.example.com/hooks"),
    ("https://api.example.com/a/../hooks", "https://api.example.com/hooks"),
    ("https://api.example.com/./hooks", "https://api.example.com/hooks"),
    ("https://api.example.com/a%2Fb", "https://api.example.com/a/b"),
    ("https://api.example.com/a%3Fb=1", "https://api.example.com/a?b=1"),
    ("https://api.example.com/a%3Bb", "https://api.example.com/a;b"),
    ("https://api.example.com/a+b", "https://api.example.com/a%20b"),
    ("https://api.example.com/%257Euser", "https://api.example.com/~user"),
    ("https://api.example.com/a%00", "https://api.example.com/a"),
    // Queries: another value, name or count, or another order of one name's values.
    ("https://api.example.com/a?b=1", "https://api.example.com/a?b=2"),
    ("https://api.example.com/a?b=1", "https://api.example.com/a"),
    ("https://api.example.com/a", "https://api.example.com/a?admin=true"),
    ("https://api.example.com/a?b=1", "https://api.example.com/a?b=1&b=1"),
    ("https://api.example.com/a?x=1&x=2", "https://api.example.com/a?x=2&x=1"),
    ("https://api.example.com/a?B=1", "https://api.example.com/a?b=1"),
    ("https://api.example.com/a?q=a%2Bb", "https://api.example.com/a?q=a+b"),
    ("https://api.example.com/a?q=a%26b=1", "https://api.example.com/a?q=a&b=1"),
    ("https://api.example.com/a?q=%FF", "https://api.example.com/a?q=%FE"),
    ("https://api.example.com/a?b=1;c=2", "https://api.example.com/a?b=1&c=2"),
    // User information differs from none and from any other.
    ("https://user@api.example.com/a", "https://api.example.com/a"),
    ("https://@api.example.com/a", "https://api.example.com/a"),
    ("https://user:a@api.example.com/a", "https://user:b@api.example.com/a"),
    // Unicode and punycode hosts are the same to a browser, but are compared as written.
    ("https://bücher.example/a", "https://xn--bcher-kva.example/a"),
    ("https://BÜCHER.example/a", "https://bücher.example/a"),
    // IPv6 literals are compared as written, and as a whole.
    ("http://[::1]:3000/a", "http://[0:0:0:0:0:0:0:1]:3000/a"),
    ("http://[::1].evil.org:3000/a", "http://[::1]:3000/a"),
    // No URL: an empty claim, or only a path or a host, as frameworks' settings have them.
    ("", "https://api.example.com/"),
    ("/a", "https://api.example.com/a"),
    ("api.example.com/a", "https://api.example.com/a"),
    ("//api.example.com/a", "https://api.example.com/a"),
    (" https://api.example.com/a", "https://api.example.com/a"),
    ("ftp://api.example.com/a", "https://api.example.com/a"),
    ("https:///a", "https://api.example.com/a"),
];
