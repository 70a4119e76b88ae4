//! `rfs report --html`: one file that draws itself, and needs nothing else.

use super::{build, json, space};
use crate::run::Cmd;
use crate::space::TestSpace;
use serde_json::Value;
use std::collections::BTreeSet;

/// The project, built twice, with a name in it that would end a script.
fn page() -> (TestSpace, String) {
    let s = space();
    s.script("a</script><b>", "#!/bin/sh\necho odd > odd.out\n");
    s.append("Makefile", "odd.out:\n\t'./a</script><b>'\n");
    build(&s);
    s.write("all.in", "other\n");
    s.remove("stamp");
    let _built = s
        .rfs(Cmd::new(["make", "-s", "app", "odd.out"]))
        .expect_code(0);
    let told = s.tool(&["report", "--html", "report.html"]).expect_code(0);
    assert!(told.err().contains("report.html"), "{told:?}");
    let page = s.read("report.html");
    (s, page)
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).unwrap();
    rest.split_once(end).unwrap().0
}

#[test]
fn a_page_holds_the_run_and_nothing_from_outside() {
    let (s, page) = page();
    let data = between(
        &page,
        "<script type=\"application/json\" id=\"data\">",
        "</script>",
    );
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(data, json(&s, &["report"]));
    assert_eq!(
        (&data["schema"], &data["run"]),
        (&"rfs.report/1".into(), &2.into())
    );
    let steps = data["steps"].as_array().unwrap();
    let numbers: BTreeSet<u64> = steps
        .iter()
        .map(|step| step["step"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers.len(), steps.len());
    assert_eq!(data["counts"]["steps"], steps.len());
    let step = |word: &str| {
        let is_it = |step: &&Value| step["command"].as_str().unwrap().contains(word);
        steps
            .iter()
            .find(is_it)
            .unwrap_or_else(|| panic!("{word}: {data:#}"))
    };
    assert_eq!(step("generate")["outputs"], serde_json::json!(["all.h"]));
    assert_eq!(step("compile a.c")["verdict"], "ran");
    assert!(
        step("compile a.c")["inputs"]
            .to_string()
            .contains("\"all.h\"")
    );
    assert!(step("compile a.c")["cpu"].is_u64());
    assert_eq!(step("</script>")["outputs"], serde_json::json!(["odd.out"]));
    // The chain is that of the log, and what is refused has its advice.
    let path = json(&s, &["log", "critical-path"]);
    let path: Vec<&Value> = path["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["step"])
        .collect();
    assert_eq!(
        data["critical"]
            .as_array()
            .unwrap()
            .iter()
            .collect::<Vec<_>>(),
        path
    );
    let refused = data["refused"].as_array().unwrap();
    assert!(
        refused
            .iter()
            .any(|one| one["why"].as_str().unwrap().contains("never")),
        "{data:#}"
    );
    assert!(
        refused
            .iter()
            .all(|one| one["advice"].as_str().unwrap().len() > 10)
    );
    for fetched in ["src=", "href=", "url(", "@import", "https:"] {
        assert!(!page.contains(fetched), "{fetched}");
    }
}

/// The script of the page runs, in an imitation of a browser that knows what it uses, and draws every step.
#[test]
fn the_script_of_a_page_draws_it() {
    let (s, page) = page();
    let data = between(
        &page,
        "<script type=\"application/json\" id=\"data\">",
        "</script>",
    );
    let script = between(&page, "</script>\n<script>", "</script>");
    s.write("data.json", data);
    s.write("page.js", script);
    s.write("browser.js", include_str!("browser.js"));
    let drawn = s
        .bare(Cmd::new(["node", "browser.js", "data.json", "page.js"]))
        .expect_code(0)
        .out();
    let drawn: Value = serde_json::from_str(&drawn).unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    let n_steps = data["steps"].as_array().unwrap().len();
    assert_eq!(drawn["boxes"], n_steps, "{drawn:#}");
    assert_eq!(
        drawn["critical"],
        data["critical"].as_array().unwrap().len()
    );
    assert_eq!(
        drawn["refused"],
        data["refused"].as_array().unwrap().len() + 1
    );
    assert!(
        drawn["text"].as_str().unwrap().contains("</script><b>"),
        "{drawn:#}"
    );
    // A click on a step tells of it; one on a file that it read leads to who wrote it.
    assert!(
        drawn["clicked"].as_str().unwrap().contains("compile"),
        "{drawn:#}"
    );
    assert!(
        drawn["walked"].as_str().unwrap().contains("generate"),
        "{drawn:#}"
    );
}

/// The real thing, where there is time for it.
#[cfg(feature = "long")]
#[test]
fn chromium_draws_a_page() {
    let (s, _) = page();
    let url = format!("file://{}", s.path("report.html").display());
    for dark in [false, true] {
        let picture = format!("--screenshot={}", s.path(format!("{dark}.png")).display());
        let mut words = vec![
            "chromium",
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--window-size=1280,1800",
            "--user-data-dir=profile",
            "--virtual-time-budget=3000",
            "--enable-logging=stderr",
        ];
        if dark {
            words.push("--blink-settings=preferredColorScheme=0");
        }
        let mut dump = words.clone();
        dump.extend(["--dump-dom", &url]);
        let dom = s.bare(Cmd::new(dump)).expect_code(0);
        assert!(
            dom.out().contains("data-drawn=\"") && dom.out().contains("class=\"step ran"),
            "{}",
            dom.err()
        );
        assert!(
            !dom.err().contains("Uncaught") && !dom.err().contains("Refused to"),
            "{}",
            dom.err()
        );
        words.extend([picture.as_str(), &url]);
        let _drawn = s.bare(Cmd::new(words)).expect_code(0);
        assert!(
            std::fs::metadata(s.path(format!("{dark}.png")))
                .unwrap()
                .len()
                > 10_000
        );
    }
}
