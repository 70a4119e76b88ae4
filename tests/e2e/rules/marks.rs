//! What people say of single files.

use super::rules;
use crate::space::TestSpace;

fn chain() -> TestSpace {
    let s = rules(
        "rule('a', targets = 'a', deps = 'src', cmd = 'cat src > a')\n\
         rule('b', targets = 'b', deps = 'a', cmd = 'cat a > b')\n",
    );
    s.write("src", "1\n");
    s.build("b").ran(&["a a", "b b"]);
    s
}

fn say(s: &TestSpace, words: &[&str]) -> String {
    s.tool(words).expect_code(0).out()
}

/// What is forgotten is made anew, once.
#[test]
fn forgotten_targets_are_made_anew() {
    let s = chain();
    say(&s, &["forget", "a"]);
    s.build("b").ran(&["a a"]);
    s.build("b").ran(&[]).served(&[]);
    say(&s, &["forget", "b"]);
    s.write("Rfsfile", "rule('b', targets = 'b', cmd = 'exit 1')\n");
    s.build("b").failed(&["exit status 1"]).tried(&["b b"]);
    s.build("b").failed(&["exit status 1"]).tried(&["b b"]);
}

/// A frozen file is taken as it is: it is not made, and what people put there counts.
#[test]
fn frozen_targets_are_taken_as_they_are() {
    let s = chain();
    say(&s, &["freeze", "a"]);
    assert_eq!(say(&s, &["freeze"]), "a\n");
    s.write("src", "2\n");
    let run = s.build("b").ran(&[]);
    assert!(run.run.err().contains("a is frozen"), "{}", run.run.err());
    s.write("a", "mine\n");
    s.build("b").ran(&["b b"]);
    assert_eq!(s.read("b"), "mine\n");
    say(&s, &["freeze", "--off", "a"]);
    s.build("b").ran(&["a a", "b b"]);
    assert_eq!(s.read("b"), "2\n");
    let absent = s.tool(&["freeze", "nowhere"]);
    assert!(
        absent.code() == 125 && absent.err().contains("not there"),
        "{}",
        absent.err()
    );
}

/// A change of a marked file is no reason to run; the next run for another reason reads it.
#[test]
fn changes_of_marked_files_do_not_count() {
    let s = rules("rule('r', targets = 'x', cmd = 'cat one two > x')\n");
    s.write("one", "1\n");
    s.write("two", "2\n");
    s.build("x").ran(&["r x"]);
    say(&s, &["mark", "one"]);
    s.write("one", "changed\n");
    let run = s.build("x").ran(&[]).served(&[]);
    assert!(run.run.err().contains("one is marked"), "{}", run.run.err());
    s.write("two", "3\n");
    s.build("x").ran(&["r x"]);
    assert_eq!(s.read("x"), "changed\n3\n");
    s.write("one", "4\n");
    say(&s, &["mark", "--off", "one"]);
    s.build("x").ran(&["r x"]);
}
