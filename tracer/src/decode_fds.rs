//! Calls on descriptors that a process may have inherited: writing to the low ones, reading standard
//! input, giving them other numbers.

use crate::decode::{Caller, Decoded};
use crate::descriptors::Writing;
use crate::event::{Event, LAST_SEEN};
use crate::table::{Data, FdOp};

impl Caller<'_> {
    pub(crate) fn decode_fds(&self, op: FdOp) -> Decoded {
        match op {
            FdOp::Write(data) => self.write(self.int(0), data),
            FdOp::ReadStdin => self.read_stdin(),
            FdOp::Direct { out, input, len } => {
                if self.int(input) == 0 {
                    self.read_stdin()?;
                }
                // The filter lets through what goes to a high descriptor, unless it is from the input.
                if (0..=LAST_SEEN).contains(&self.int(out)) {
                    let writing = Writing::new(
                        &self.shared.links,
                        self.views(),
                        self.call,
                        self.int(out),
                        Data::Unseen(len),
                    );
                    self.tell(Event::WriteDirect(&writing))?;
                }
                Ok(())
            }
            FdOp::Dup(to) => self.dup(to.map_or(-1, |n| self.int(n))),
            FdOp::Fcntl => match self.int(1) {
                libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => self.dup(-1),
                _ => Ok(()),
            },
        }
    }

    pub(crate) fn write(&self, fd: i32, data: Data) -> Decoded {
        self.tell(Event::Write(&Writing::new(
            &self.shared.links,
            self.views(),
            self.call,
            fd,
            data,
        )))
    }

    fn read_stdin(&self) -> Decoded {
        let target = self.fd_target(0)?;
        self.tell(Event::ReadStdin(target))
    }

    fn dup(&self, to: i32) -> Decoded {
        let from = self.int(0);
        let target = self.fd_target(from)?;
        self.tell(Event::Dup { from, to, target })
    }
}
