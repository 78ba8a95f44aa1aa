//! The target of a request: path and query, and percent-decoding.

/// What a request asks for. The path is as it was sent; a segment that carries a value goes through [`percent_decode`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    pub path: String,
    pub query: Query,
}

/// Decoded name and value pairs, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl Target {
    /// Reads an origin-form (`/path?query`) or absolute-form (`http://host/path?query`) target. None: neither of them,
    /// or a query with a broken escape.
    pub fn parse(text: &str) -> Option<Target> {
        let text = text.split_once('#').map_or(text, |(before, _)| before);
        let origin = if text.starts_with('/') {
            text
        } else {
            let (scheme, rest) = text.split_once("://")?;
            if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
                return None;
            }
            let at = rest.find(['/', '?']).unwrap_or(rest.len());
            if at == 0 { return None } else { &rest[at..] }
        };
        let (path, query) = origin.split_once('?').unwrap_or((origin, ""));
        let path = if path.is_empty() { "/" } else { path };
        Some(Target { path: path.to_owned(), query: parse_query(query)? })
    }
}

fn parse_query(text: &str) -> Option<Query> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((form_decode(name)?, form_decode(value)?))
    });
    pairs.collect::<Option<Vec<_>>>().map(Query)
}

/// In a query, and only there, `+` stands for a space.
fn form_decode(text: &str) -> Option<String> {
    percent_decode(&text.replace('+', " "))
}

/// Resolves `%xx`. None: a broken escape, or bytes that are not UTF-8.
pub fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => nibble(rest.next()?)? * 16 + nibble(rest.next()?)?,
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Escapes everything but the unreserved characters of RFC 3986: fit for a path segment, a query name or its value.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => {
                out.push('%');
                for nibble in [other >> 4, other & 15] {
                    out.push(char::from(b"0123456789ABCDEF"[usize::from(nibble)]));
                }
            }
        }
    }
    out
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_targets() {
        for (text, path, query) in [
            ("/", "/", vec![]),
            ("/v1/peers?mesh=a&x", "/v1/peers", vec![("mesh", "a"), ("x", "")]),
            ("/a?q=1%2B1+%C3%A9&&q=2=3", "/a", vec![("q", "1+1 é"), ("q", "2=3")]),
            ("/a%2Fb#frag?x=1", "/a%2Fb", vec![]),
            ("http://h:1/p?x=1", "/p", vec![("x", "1")]),
            ("HTTPS://h", "/", vec![]),
            ("http://h?x=/y", "/", vec![("x", "/y")]),
        ] {
            let target = Target::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((target.path.as_str(), target.query.iter().collect::<Vec<_>>()), (path, query), "{text}");
        }
        for bad in ["", "*", "a", "h:443", "ftp://h/", "http:///x", "/a?x=%", "/a?x=%4", "/a?x=%zz", "/a?x=%ff", "/a?%é"] {
            assert_eq!(Target::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        for text in ["", "plain-._~", "a b/c?d=e&f+g%", "é\0\u{1F600}"] {
            assert_eq!(percent_decode(&percent_encode(text)).as_deref(), Some(text));
        }
        assert_eq!(percent_decode("a+b").as_deref(), Some("a+b"));
    }
}
