//! A report as one HTML file that needs nothing else: no network, no other file. The data are in it as JSON.

/// What the page is made of, around the data.
const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// The page for an answer of schema `rfs.report/1`.
#[must_use]
pub fn html(title: &str, json: &str) -> String {
    // Whatever a file is called: nothing in the data ends the script that holds it.
    let json = json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028");
    let title = title.replace('&', "&amp;").replace('<', "&lt;");
    let mut page = String::with_capacity(json.len() + TEMPLATE.len() + STYLE.len() + SCRIPT.len());
    let mut rest = TEMPLATE;
    for (mark, text) in [
        ("{title}", title.as_str()),
        ("{style}", STYLE),
        ("{data}", json.as_str()),
        ("{script}", SCRIPT),
    ] {
        let (before, after) = rest.split_once(mark).expect("BUG: a mark of the template");
        page.push_str(before);
        page.push_str(text);
        rest = after;
    }
    page.push_str(rest);
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_data_leaves_its_place() {
        let page = html("a <b>", "{\"x\":\"</script>{script}\"}");
        assert!(page.contains("{\"x\":\"\\u003c/script>{script}\"}"));
        assert!(page.contains("<title>a &lt;b></title>"));
        assert_eq!(page.matches("</script>").count(), 2);
    }

    #[test]
    fn nothing_is_fetched() {
        let page = html("t", "{}");
        for word in [
            "http:", "https:", "src=", "@import", "url(", "href=", "fetch(", "import(",
        ] {
            let without_names = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!without_names.contains(word), "{word}");
        }
        assert!(page.contains("default-src 'none'"));
    }
}
