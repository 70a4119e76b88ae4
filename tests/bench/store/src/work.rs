//! The work that all engines do: names, executions and deps as a large C++ project has them.

/// How much of what there is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub nodes: u32,
    pub executions: u32,
    /// Deps of an execution.
    pub deps: u32,
    /// Whether executions of one component look at the same headers; else each at any of all.
    pub shares: bool,
    /// Whether they look for what is absent, too: half of their deps.
    pub absent: bool,
}

/// One dep: the number of a name, and that of its content; none for a name that is absent.
pub type Dep = (u32, Option<u32>);

/// What one execution did.
#[derive(Debug)]
pub struct Step {
    pub key: [u8; 32],
    pub output: u32,
    pub deps: Vec<Dep>,
}

/// Executions of a component.
const COMPONENT: u32 = 100;

impl Size {
    /// The whole of what the store is made for.
    pub fn whole(shares: bool) -> Self {
        Self { nodes: 1_000_000, executions: 200_000, deps: 250, shares, absent: true }
    }

    /// A part of it.
    pub fn part(self, divisor: u32) -> Self {
        Self {
            nodes: self.nodes / divisor,
            executions: self.executions / divisor,
            ..self
        }
    }

    /// Names of a kind: outputs, sources, headers, and what is looked for in vain.
    fn kinds(&self) -> [u32; 4] {
        let n = self.executions;
        let headers = (self.nodes - 2 * n) / 3;
        [n, n, headers, self.nodes - 2 * n - headers]
    }

    /// The name of a number.
    pub fn name(&self, number: u32) -> String {
        let [outputs, sources, headers, _] = self.kinds();
        let component = |n: u32| (n / COMPONENT, n % COMPONENT);
        if number < outputs {
            let (dir, n) = component(number);
            return format!("build/out/component-{dir:04}/CMakeFiles/objects.dir/module_{n:02}_impl.cc.o");
        }
        let number = number - outputs;
        if number < sources {
            let (dir, n) = component(number);
            return format!("src/component-{dir:04}/internal/module_{n:02}_impl.cc");
        }
        let number = number - sources;
        if number < headers {
            let (dir, n) = component(number);
            return format!("src/component-{dir:04}/include/public/interface_{n:02}_types.h");
        }
        let (dir, n) = component(number - headers);
        format!("third_party/include-{:02}/component-{:04}/public/interface_{n:02}_types.h", dir % 7, dir / 7)
    }

    /// What the execution of a number did.
    pub fn step(&self, number: u32) -> Step {
        let mut random = Random(u64::from(number) + 1);
        let [outputs, sources, headers, absent] = self.kinds();
        let first_header = outputs + sources;
        let first_absent = first_header + headers;
        let (n_headers, n_absent) = (self.deps / 2, self.deps - 1 - self.deps / 2);
        let mut deps = vec![(outputs + number, Some(outputs + number))];
        let component = number / COMPONENT;
        let mut pick = |first: u32, of: u32, n: u32, there: bool| {
            let mut names: Vec<u32> = if self.shares {
                // A tenth of what is near is not looked at, by each another one.
                let start = component * 37 % of.saturating_sub(2 * n).max(1);
                let near = (0..2 * n).filter(|_| random.below(10) != 0);
                near.take(n as usize).map(|at| first + start + at).collect()
            } else {
                (0..n).map(|_| first + random.below(of)).collect()
            };
            names.sort_unstable();
            names.dedup();
            // Those that are left out are rolled as well, so that the others are the same.
            if there || self.absent {
                deps.extend(names.into_iter().map(|name| (name, there.then_some(name))));
            }
        };
        pick(first_header, headers, n_headers, true);
        pick(first_absent, absent, n_absent, false);
        let mut key = [0; 32];
        for part in key.chunks_mut(8) {
            part.copy_from_slice(&random.next().to_le_bytes());
        }
        Step { key, output: number, deps }
    }

    /// Numbers of names that are looked up, anywhere among all.
    pub fn some_names(&self, n: usize) -> Vec<u32> {
        let mut random = Random(77);
        (0..n).map(|_| random.below(self.nodes)).collect()
    }

    /// Numbers of headers.
    pub fn some_headers(&self, n: usize) -> Vec<u32> {
        let [outputs, sources, headers, _] = self.kinds();
        let mut random = Random(78);
        (0..n).map(|_| outputs + sources + random.below(headers.min(self.executions / 3))).collect()
    }
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u32) -> u32 {
        u32::try_from(self.next() % u64::from(n.max(1))).unwrap()
    }
}
