//! `rfs stats`: counts that add up, and a text that Prometheus takes.

use super::{ask, build, json, space};
use crate::run::Cmd;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What a text in Prometheus' format 0.0.4 says: by name and labels. Panics at what its grammar does not allow.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let is_name = |text: &str| {
        let mut chars = text.chars();
        chars
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let mut samples = BTreeMap::new();
    let (mut helped, mut typed) = (BTreeSet::new(), BTreeSet::new());
    let mut current = String::new();
    assert!(text.ends_with('\n'), "the last line has no end");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(is_name(name) && !help.is_empty(), "{line}");
            assert!(helped.insert(name.to_owned()), "twice: {line}");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert!(typed.insert(name.to_owned()), "twice: {line}");
            name.clone_into(&mut current);
            continue;
        }
        let end = line
            .find(['{', ' '])
            .unwrap_or_else(|| panic!("no value: {line}"));
        let (name, mut rest) = line.split_at(end);
        assert!(is_name(name), "{line}");
        // All samples of a metric come in one group, after its type.
        assert_eq!(name, current, "{line}");
        if let Some(labels) = rest.strip_prefix('{') {
            rest = labels;
            let mut names = BTreeSet::new();
            loop {
                let (label, value) = rest.split_once("=\"").unwrap();
                assert!(is_name(label) && names.insert(label), "{line}");
                let mut escaped = false;
                let end = value.find(|c| {
                    let ends = c == '"' && !escaped;
                    assert!(!escaped || "\\\"n".contains(c), "{line}");
                    escaped = c == '\\' && !escaped;
                    ends
                });
                rest = &value[end.unwrap() + 1..];
                match rest.strip_prefix(',') {
                    Some(more) => rest = more,
                    None => break,
                }
            }
            rest = rest.strip_prefix('}').unwrap();
        }
        let value: f64 = rest.strip_prefix(' ').unwrap().parse().unwrap();
        let key = line[..line.rfind(' ').unwrap()].to_owned();
        assert!(samples.insert(key, value).is_none(), "twice: {line}");
    }
    assert_eq!(helped, typed);
    samples
}

#[test]
fn counts_add_up_and_prometheus_reads_them() {
    let s = space();
    s.script("odd \"na\\me", "#!/bin/sh\nexit 0\n");
    s.append("Makefile", "odd:\n\t'./odd \"na\\me'\n");
    build(&s);
    for made in ["a.o", "b.o", "all.h", "app", "stamp"] {
        s.remove(made);
    }
    build(&s);
    let _odd = s.rfs(Cmd::new(["make", "-s", "odd"])).expect_code(0);
    let _failed = s.rfs(Cmd::new(["false"])).expect_code(1);
    let _failed = s.rfs(Cmd::new(["false"])).expect_code(1);

    let stats = json(&s, &["stats"]);
    assert_eq!(stats["schema"], "rfs.stats/1");
    let (last, all) = (&stats["last"], &stats["all"]);
    let number = |of: &Value, field: &str| of[field].as_f64().unwrap();
    assert_eq!((number(all, "first"), number(all, "last")), (1.0, 5.0));
    assert_eq!((number(all, "builds"), number(all, "failed")), (5.0, 2.0));
    assert_eq!(number(all, "whole_hits"), 1.0, "{stats:#}");
    let of_last: Vec<f64> = ["builds", "failed", "whole_hits", "steps", "hit"]
        .map(|field| number(last, field))
        .to_vec();
    assert_eq!(of_last, [1.0; 5], "{stats:#}");
    let parts: f64 = ["hit", "ran", "refused"]
        .map(|field| number(all, field))
        .iter()
        .sum();
    assert_eq!(parts, number(all, "steps"));
    // As the log counts.
    let log = json(&s, &["log"]);
    for field in ["hit", "ran", "refused"] {
        let logged = log["runs"].as_array().unwrap().iter();
        let logged: f64 = logged.map(|run| number(run, field)).sum();
        assert_eq!(logged, number(all, field), "{field}");
    }
    let tools = all["tools"].as_array().unwrap();
    let tool = |name: &str| tools.iter().find(|tool| tool["tool"] == name).unwrap();
    assert_eq!(tool("compile")["hit"], 2, "{stats:#}");
    assert_eq!(tool("compile")["hit_rate"], 0.5, "{stats:#}");
    assert_eq!(tool("never")["refused"], 2, "{stats:#}");
    assert!(number(tool("compile"), "saved_s") <= number(all, "saved_s"));
    // Make is refused for the one that it started, which counts alone.
    let reasons = all["refused_by_reason"].as_array().unwrap();
    assert_eq!(reasons.len(), 1, "{stats:#}");
    assert_eq!(
        (&reasons[0]["kind"], &reasons[0]["steps"]),
        (&"never".into(), &2.into())
    );

    let samples = parse(&ask(&s, &["stats", "--prometheus"]));
    let sample = |name: &str| *samples.get(name).unwrap_or_else(|| panic!("{samples:#?}"));
    assert_eq!(sample("rfs_builds{span=\"all\"}"), 5.0);
    for field in ["hit", "ran", "refused"] {
        for (span, counts) in [("all", all), ("last", last)] {
            let name = format!("rfs_steps{{span=\"{span}\",verdict=\"{field}\"}}");
            assert_eq!(sample(&name), number(counts, field));
        }
    }
    assert_eq!(
        sample("rfs_steps_refused{span=\"all\",reason=\"never\"}"),
        2.0
    );
    let odd = "rfs_tool_steps{span=\"all\",tool=\"odd \\\"na\\\\me\",verdict=\"ran\"}";
    assert_eq!(sample(odd), 1.0);

    let text = ask(&s, &["stats"]);
    assert!(
        text.contains("refused, never: 2 steps: `never` in [tools]"),
        "{text}"
    );
    assert!(
        text.lines()
            .any(|line| line.starts_with("compile ") && line.contains("50%")),
        "{text}"
    );
}
