//! The line between the host and the processes that it forks: small messages over a pair of sockets that
//! close on exec. Sending works even under the filter. Knows no order of messages.
#![allow(unsafe_code)]

use crate::reaper::Ended;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, socketpair,
};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// How far the process that becomes the command had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Prepare,
    Cwd,
    Filter,
    Exec,
}

const STAGES: [Stage; 4] = [Stage::Prepare, Stage::Cwd, Stage::Filter, Stage::Exec];

#[derive(Debug)]
pub(crate) enum Message {
    /// The filter is installed, this is its listener.
    Listener(OwnedFd),
    /// Waits to be traced.
    Ready,
    /// Is traced: go on.
    Go,
    /// Did not get past a stage: errno or 0, and what to say.
    Failed(Stage, i32, String),
    /// The command's process has this id.
    Forked(i32),
    /// The command has ended.
    Ended(Ended),
}

/// One end.
#[derive(Debug)]
pub(crate) struct Line(OwnedFd);

/// Longest message. The kernel keeps each apart and whole (`SOCK_SEQPACKET`).
const LONGEST: usize = 1024;

impl Line {
    pub(crate) fn pair() -> Result<(Self, Self), Errno> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self(a), Self(b)))
    }

    /// Closes this process's copy of an end that belongs to the process that forked it. To be followed
    /// by nothing but the end of this process, for the value still thinks that it owns the descriptor.
    pub(crate) fn close_copy(&self) {
        nix::unistd::close(self.0.as_raw_fd()).ok();
    }

    /// Closes every other descriptor of this process, so that pipes, mounts and terminals that others
    /// hold end when they would without it. The process must use none of them any more.
    pub(crate) fn close_others(&self) {
        let fd = self.0.as_raw_fd() as u32;
        for (first, last) in [(0, fd.wrapping_sub(1)), (fd + 1, u32::MAX)] {
            if first <= last && !(first == 0 && fd == 0) {
                // SAFETY: takes three integers; that nobody uses the descriptors is our contract.
                unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
            }
        }
    }

    /// Sends a message by a call that a filter lets pass for this cookie.
    pub(crate) fn send(&self, message: &Message, cookie: u64) -> Result<(), Errno> {
        let (tag, stage, value, text) = match message {
            Message::Listener(fd) => return self.send_bytes(&[0; 6], Some(fd.as_fd()), cookie),
            Message::Ready => (1, 0, 0, ""),
            Message::Go => (2, 0, 0, ""),
            Message::Failed(stage, errno, text) => (3, *stage as u8, *errno, text.as_str()),
            Message::Forked(pid) => (4, 0, *pid, ""),
            Message::Ended(Ended::Exit(status)) => (5, 0, *status, ""),
            Message::Ended(Ended::Signal(signal)) => (6, 0, *signal, ""),
        };
        let mut bytes = [0; LONGEST];
        let text = &text.as_bytes()[..text.len().min(LONGEST - 6)];
        bytes[..2].copy_from_slice(&[tag, stage]);
        bytes[2..6].copy_from_slice(&value.to_le_bytes());
        bytes[6..6 + text.len()].copy_from_slice(text);
        self.send_bytes(&bytes[..6 + text.len()], None, cookie)
    }

    fn send_bytes(
        &self,
        bytes: &[u8],
        fd: Option<BorrowedFd<'_>>,
        cookie: u64,
    ) -> Result<(), Errno> {
        let mut iov = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: zero is a value of every field.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut iov;
        message.msg_iovlen = 1;
        let mut rights = fd.map(Rights::new);
        if let Some(rights) = &mut rights {
            message.msg_control = (&raw mut *rights).cast();
            message.msg_controllen = size_of::<Rights>() as _;
        }
        // SAFETY: everything that the message points at lives until after the call.
        let ret = unsafe {
            libc::syscall(
                libc::SYS_sendmsg,
                self.0.as_raw_fd(),
                &raw const message,
                libc::MSG_NOSIGNAL,
                0,
                0,
                cookie,
            )
        };
        if ret < 0 { Err(Errno::last()) } else { Ok(()) }
    }

    /// Receives a message. `None`: the other end is closed.
    pub(crate) fn receive(&self) -> Result<Option<Message>, Errno> {
        self.receive_with(MsgFlags::empty())
    }

    /// Receives a message if there is one, else fails with `EAGAIN`.
    pub(crate) fn receive_now(&self) -> Result<Option<Message>, Errno> {
        self.receive_with(MsgFlags::MSG_DONTWAIT)
    }

    fn receive_with(&self, flags: MsgFlags) -> Result<Option<Message>, Errno> {
        let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
        let mut bytes = [0; LONGEST];
        let mut control = nix::cmsg_space!(libc::c_int);
        let mut iov = [IoSliceMut::new(&mut bytes)];
        let (len, fd) = loop {
            match recvmsg::<()>(self.0.as_raw_fd(), &mut iov, Some(&mut control), flags) {
                Ok(received) => break (received.bytes, received_fd(received.cmsgs()?)),
                Err(Errno::EINTR) => {}
                // The other end was closed with messages of ours unread.
                Err(Errno::ECONNRESET) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        };
        if len == 0 {
            return Ok(None);
        }
        decode(&bytes[..len], fd).map(Some).ok_or(Errno::EBADMSG)
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn received_fd(messages: nix::sys::socket::CmsgIterator<'_>) -> Option<OwnedFd> {
    let mut first = None;
    for message in messages {
        if let ControlMessageOwned::ScmRights(fds) = message {
            for fd in fds {
                // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                first.get_or_insert(fd);
            }
        }
    }
    first
}

fn decode(bytes: &[u8], fd: Option<OwnedFd>) -> Option<Message> {
    let (head, text) = bytes.split_at_checked(6)?;
    let value = i32::from_le_bytes(head[2..].try_into().ok()?);
    Some(match head[0] {
        0 => Message::Listener(fd?),
        1 => Message::Ready,
        2 => Message::Go,
        3 => {
            let stage = *STAGES.get(usize::from(head[1]))?;
            Message::Failed(stage, value, String::from_utf8_lossy(text).into_owned())
        }
        4 => Message::Forked(value),
        5 => Message::Ended(Ended::Exit(value)),
        6 => Message::Ended(Ended::Signal(value)),
        _ => return None,
    })
}

/// A control message with one descriptor, laid out as `CMSG_DATA` and `CMSG_LEN` say for 64-bit machines.
#[repr(C)]
struct Rights {
    header: libc::cmsghdr,
    fd: libc::c_int,
    padding: libc::c_int,
}

impl Rights {
    fn new(fd: BorrowedFd<'_>) -> Self {
        // SAFETY: zero is a value of every field.
        let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
        header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<libc::c_int>()) as _;
        header.cmsg_level = libc::SOL_SOCKET;
        header.cmsg_type = libc::SCM_RIGHTS;
        Self {
            header,
            fd: fd.as_raw_fd(),
            padding: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(message: Message) -> Message {
        let (a, b) = Line::pair().unwrap();
        a.send(&message, 7).unwrap();
        b.receive().unwrap().unwrap()
    }

    #[test]
    fn messages_arrive_as_sent() {
        let long = "x".repeat(5000);
        let Message::Failed(Stage::Exec, 13, text) =
            through(Message::Failed(Stage::Exec, 13, long))
        else {
            panic!("not what was sent");
        };
        assert_eq!(text, "x".repeat(LONGEST - 6));
        assert!(matches!(through(Message::Ready), Message::Ready));
        assert!(matches!(through(Message::Go), Message::Go));
        assert!(matches!(through(Message::Forked(9)), Message::Forked(9)));
        assert!(matches!(
            through(Message::Ended(Ended::Signal(11))),
            Message::Ended(Ended::Signal(11))
        ));
    }

    #[test]
    fn a_descriptor_arrives() {
        let (read, write) = nix::unistd::pipe().unwrap();
        let Message::Listener(sent) = through(Message::Listener(write)) else {
            panic!("not a descriptor");
        };
        nix::unistd::write(&sent, b"hello").unwrap();
        let mut bytes = [0; 8];
        assert_eq!(nix::unistd::read(&read, &mut bytes), Ok(5));
    }

    #[test]
    fn a_closed_end_is_no_message() {
        let (a, b) = Line::pair().unwrap();
        drop(a);
        assert!(b.receive().unwrap().is_none());
        assert_eq!(b.send(&Message::Go, 0), Err(Errno::EPIPE));
    }
}
