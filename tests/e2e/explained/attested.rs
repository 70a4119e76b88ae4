//! `rfs attest`, `rfs sbom` and `rfs verify`: what is signed is what was built, and nothing else passes.

use super::space;
use crate::run::{Cmd, Run};
use crate::space::TestSpace;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;

fn rfs(s: &TestSpace, args: &[&str]) -> Run {
    s.tool(args)
}

/// A build with a real compiler, and a key.
fn signed() -> TestSpace {
    let s = TestSpace::new();
    s.write(
        "Makefile",
        "app: main.o\n\tgcc -o app main.o\nmain.o: main.c it.h\n\tgcc -c main.c\n",
    );
    s.write(
        "main.c",
        "#include <stddef.h>\n#include \"it.h\"\nint main(void) { return IT; }\n",
    );
    s.write("it.h", "#define IT 0\n");
    s.write("other.c", "int other;\n");
    let _built = s.rfs(Cmd::new(["make", "-s"])).expect_code(0);
    let made = rfs(&s, &["attest", "--new-key", "app"]).expect_code(0);
    assert!(made.err().contains("signed by"), "{made:?}");
    s
}

/// The statement in an envelope.
fn statement(s: &TestSpace, path: &str) -> Value {
    let script = "import base64,json,sys; \
                  print(base64.b64decode(json.load(open(sys.argv[1]))['payload']).decode())";
    let printed = s
        .bare(Cmd::new(["python3", "-c", script, path]))
        .expect_code(0);
    serde_json::from_str(&printed.out()).unwrap()
}

fn sha256(s: &TestSpace, path: &str) -> String {
    let printed = s.bare(Cmd::new(["sha256sum", path])).expect_code(0).out();
    printed.split(' ').next().unwrap().to_owned()
}

#[test]
fn a_statement_names_all_that_a_file_was_made_from() {
    let s = signed();
    let told = statement(&s, "app.intoto.json");
    assert_eq!(told["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(told["predicateType"], "https://slsa.dev/provenance/v1");
    assert_eq!(told["subject"][0]["name"], "app");
    assert_eq!(told["subject"][0]["digest"]["sha256"], sha256(&s, "app"));
    let definition = &told["predicate"]["buildDefinition"];
    assert_eq!(definition["externalParameters"]["command"], "make -s");
    let steps = definition["internalParameters"]["steps"].to_string();
    assert!(
        steps.contains("[\"gcc\",\"-c\",\"main.c\"]") && steps.contains("[\"make\",\"-s\"]"),
        "{steps}"
    );
    let deps = definition["resolvedDependencies"].as_array().unwrap();
    let deps: BTreeMap<&str, &Value> = deps
        .iter()
        .map(|dep| (dep["uri"].as_str().unwrap(), dep))
        .collect();
    for source in ["main.c", "it.h", "Makefile"] {
        let dep = deps
            .get(format!("file:{source}").as_str())
            .unwrap_or_else(|| panic!("{source}: {deps:#?}"));
        assert_eq!(dep["digest"]["sha256"], sha256(&s, source), "{source}");
        assert_eq!(dep["digest"]["blake3"].as_str().unwrap().len(), 64);
    }
    // What was not read is no input, nor is what was made on the way.
    for none in ["file:other.c", "file:main.o", "file:app"] {
        assert!(!deps.contains_key(none), "{none}");
    }
    let between = told["predicate"]["runDetails"]["byproducts"].to_string();
    assert!(between.contains("file:main.o"), "{between}");
    // The compiler and the library's header, with the packages that own them.
    let header = deps.keys().find(|uri| uri.ends_with("/stddef.h")).unwrap();
    let package = deps[header]["annotations"]["package"].as_str().unwrap();
    assert!(
        package.starts_with("pkg:deb/debian/libgcc-") && deps.contains_key(package),
        "{package}"
    );
    assert!(
        deps.keys()
            .any(|uri| uri.starts_with("pkg:deb/debian/binutils")),
        "{deps:#?}"
    );
}

#[test]
fn openssl_agrees_about_the_signature() {
    let s = signed();
    // The pre-authentication encoding, made by another program.
    let script = "import base64,json; e=json.load(open('app.intoto.json')); p=base64.b64decode(e['payload']); \
                  t=e['payloadType'].encode(); \
                  open('signed','wb').write(b'DSSEv1 %d %s %d %s' % (len(t),t,len(p),p)); \
                  open('sig','wb').write(base64.b64decode(e['signatures'][0]['sig']))";
    s.must(Cmd::new(["python3", "-c", script]));
    let home = s.bare(Cmd::sh("echo $HOME")).out();
    let key = format!("{}/.config/rfs/attest.pub", home.trim());
    let verify = [
        "openssl", "pkeyutl", "-verify", "-pubin", "-inkey", &key, "-rawin", "-in", "signed",
        "-sigfile", "sig",
    ];
    let told = s.bare(Cmd::new(verify)).expect_code(0);
    assert!(told.out().contains("Verified Successfully"), "{told:?}");
    let mode = s.bare(Cmd::sh("stat -c %a ~/.config/rfs/attest.key")).out();
    assert_eq!(mode, "600\n");
}

#[test]
fn nothing_that_was_changed_is_verified() {
    let s = signed();
    let told = rfs(&s, &["verify", "app"]).expect_code(0).out();
    assert!(
        told.starts_with("app: as signed by ") && told.contains("inputs are as they were"),
        "{told}"
    );
    assert!(!told.contains("changed since"), "{told}");

    // Each byte of the file, and of a good part of the envelope (all of it: attest::envelope::tests).
    let key = s.bare(Cmd::sh("echo $HOME")).out().trim().to_owned() + "/.config/rfs/attest.pub";
    let refuse = |what: &str| {
        let run = rfs(&s, &["verify", "--key", &key, "app"]);
        assert_eq!(
            (run.code(), run.out().contains("NOT verified")),
            (1, true),
            "{what}: {run:?}"
        );
    };
    for name in ["app", "app.intoto.json"] {
        let path = s.path(name);
        let good = fs::read(&path).unwrap();
        for at in [
            0,
            1,
            good.len() / 3,
            good.len() / 2,
            good.len() - 100,
            good.len() - 1,
        ] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            refuse(&format!("byte {at} of {name}"));
        }
        fs::write(&path, &good[..good.len() - 1]).unwrap();
        refuse("shorter");
        fs::write(&path, [&good[..], b"\n"].concat()).unwrap();
        refuse("longer");
        fs::write(&path, &good).unwrap();
    }
    // The statement is about another file.
    s.must(Cmd::sh(
        "cp app main2 && cp app.intoto.json main2.intoto.json",
    ));
    let run = rfs(&s, &["verify", "main2"]).expect_code(1);
    assert!(run.out().contains("the statement is about app"), "{run:?}");
    // Somebody else's key.
    let _made = rfs(&s, &["attest", "--new-key", "--key", "other.key"]).expect_code(0);
    let run = rfs(&s, &["verify", "--key", "other.pub", "app"]).expect_code(1);
    assert!(run.out().contains("signed by the key"), "{run:?}");
    let run = rfs(&s, &["verify", "--key", "other.key", "app"]).expect_code(125);
    assert!(
        run.err().contains("hint: it must be the public half"),
        "{run:?}"
    );
    // A key is never written over.
    let before = s.read("other.key");
    let run = rfs(&s, &["attest", "--new-key", "--key", "other.key"]).expect_code(125);
    assert!(
        run.err().contains("hint:") && s.read("other.key") == before,
        "{run:?}"
    );
}

#[test]
fn verify_tells_which_inputs_have_changed() {
    let s = signed();
    s.write("it.h", "#define IT 1\n");
    s.remove("main.c");
    let told = rfs(&s, &["verify", "--json", "app"]).expect_code(0).out();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&told["schema"], &told["verified"]),
        (&"rfs.verify/1".into(), &true.into())
    );
    assert_eq!(told["changed"], serde_json::json!(["it.h"]), "{told:#}");
    assert_eq!(told["missing"], serde_json::json!(["main.c"]));
    assert!(told["unchanged"].as_u64().unwrap() > 10, "{told:#}");
    let _strict = rfs(&s, &["verify", "--strict", "app"]).expect_code(1);

    // What is not as it was built is not attested, nor is a source.
    s.append("app", "x");
    let run = rfs(&s, &["attest", "app"]).expect_code(125);
    assert!(
        run.err().contains("not as the build left it") && run.err().contains("hint:"),
        "{run:?}"
    );
    let run = rfs(&s, &["attest", "it.h"]).expect_code(125);
    assert!(
        run.err().contains("is a source") && run.err().contains("hint:"),
        "{run:?}"
    );
}

#[test]
fn a_served_file_is_attested_as_from_when_it_was_made() {
    let s = space();
    super::build(&s);
    for made in ["a.o", "b.o", "all.h", "app", "stamp"] {
        s.remove(made);
    }
    super::build(&s);
    let _made = rfs(&s, &["attest", "--new-key", "app"]).expect_code(0);
    let told = statement(&s, "app.intoto.json");
    let deps = told["predicate"]["buildDefinition"]["resolvedDependencies"].to_string();
    for source in [
        "file:all.in",
        "file:a.c",
        "file:b.c",
        "file:compile",
        "file:generate",
    ] {
        assert!(deps.contains(source), "{source}: {deps}");
    }
    // Nobody read what was made from it.
    assert!(!deps.contains("file:seed"), "{deps}");
    let _fine = rfs(&s, &["verify", "app"]).expect_code(0);
}

#[test]
fn a_bill_of_materials_lists_sources_and_packages() {
    let s = signed();
    let bill = rfs(&s, &["sbom", "app"]).expect_code(0).out();
    let bill: Value = serde_json::from_str(&bill).unwrap();
    assert_eq!(
        (&bill["spdxVersion"], &bill["dataLicense"]),
        (&"SPDX-2.3".into(), &"CC0-1.0".into())
    );
    let packages = bill["packages"].as_array().unwrap();
    let mut ids = BTreeMap::new();
    for package in packages {
        for field in ["SPDXID", "name", "downloadLocation"] {
            assert!(package[field].is_string(), "{package:#}");
        }
        let id = package["SPDXID"].as_str().unwrap();
        assert!(
            id.starts_with("SPDXRef-") && ids.insert(id, package).is_none(),
            "{id}"
        );
    }
    let relations = bill["relationships"].as_array().unwrap();
    assert_eq!(relations.len(), packages.len());
    for relation in relations {
        for end in ["spdxElementId", "relatedSpdxElement"] {
            let end = relation[end].as_str().unwrap();
            assert!(
                end == "SPDXRef-DOCUMENT" || ids.contains_key(end),
                "{relation}"
            );
        }
    }
    let named = |name: &str| packages.iter().find(|one| one["name"] == name);
    let sum = named("main.c").unwrap()["checksums"][0]["checksumValue"].clone();
    assert_eq!(sum, sha256(&s, "main.c"));
    assert!(named("other.c").is_none() && named("main.o").is_none());
    let gcc = packages
        .iter()
        .find(|one| one["name"].as_str().unwrap().starts_with("gcc-"))
        .unwrap();
    let purl = gcc["externalRefs"][0]["referenceLocator"].as_str().unwrap();
    assert!(purl.starts_with("pkg:deb/debian/gcc-"), "{purl}");

    validated(&s, "app");
    let _signed = rfs(&s, &["sbom", "--sign", "-o", "bill.json", "app"]).expect_code(0);
    let told = rfs(&s, &["verify", "--attestation", "bill.json", "app"]).expect_code(0);
    assert!(told.out().contains("spdx.dev/Document"), "{told:?}");
}

/// The validator of the SPDX project has nothing to say of the bill of a file, where there is time for it.
fn validated(s: &TestSpace, name: &str) {
    if std::env::var_os("RFS_LONG").is_none() {
        return;
    }
    let rfs_program = std::path::Path::new(env!("CARGO_BIN_EXE_rfs"));
    let mut tools = rfs_program
        .ancestors()
        .map(|dir| dir.join("tools/spdx-tools-0.8.5"));
    let tools = tools
        .find(|dir| dir.is_dir())
        .expect("tests/run.sh installs it");
    let bill = format!("{name}.spdx.json");
    let _made = rfs(s, &["sbom", "-o", &bill, name]).expect_code(0);
    let module = "spdx_tools.spdx.clitools.pyspdxtools";
    let validator = Cmd::new(["python3", "-m", module, "-i", &bill]);
    let told = s
        .bare(validator.env("PYTHONPATH", tools.to_str().unwrap()))
        .expect_code(0);
    assert!(!told.err().contains("invalid"), "{told:?}");
}

/// What jobs of rules have made has its origin too.
#[test]
fn what_rules_have_made_is_attested() {
    let s = TestSpace::new();
    s.write("a.in", "one\n");
    let rule = "rule('up', targets = 'a.out', deps = {'IN': 'a.in'}, cmd = 'cat {IN} hidden > {target}')\n";
    s.write("Rfsfile", rule);
    s.write("hidden", "two\n");
    let _built = s.tool(&["build", "a.out"]).expect_code(0);
    assert_eq!(s.read("a.out"), "one\ntwo\n");
    let _made = rfs(&s, &["attest", "--new-key", "a.out"]).expect_code(0);
    let told = statement(&s, "a.out.intoto.json");
    let definition = &told["predicate"]["buildDefinition"];
    let deps = definition["resolvedDependencies"].to_string();
    for source in ["\"file:a.in\"", "\"file:hidden\""] {
        assert!(deps.contains(source), "{source}: {deps}");
    }
    let command = definition["externalParameters"]["command"]
        .as_str()
        .unwrap();
    assert_eq!(command, "rfs build a.out");
    let _fine = rfs(&s, &["verify", "a.out"]).expect_code(0);
    let log = rfs(&s, &["log"]).expect_code(0).out();
    assert!(log.contains("rfs build a.out"), "{log}");
}
