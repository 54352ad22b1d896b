//! Asks a server whether its grammar takes a text, without running it.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, bail};

use crate::Result;

/// A session that asks.
pub(crate) struct Grammar {
    stream: TcpStream,
    answers: BufReader<TcpStream>,
}

impl Grammar {
    /// Logs in to a server that trusts everyone.
    pub(crate) fn new(port: u16, user: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).context("connecting")?;
        stream.set_nodelay(true)?;
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        for word in ["user", user, "database", "postgres", "client_encoding", "UTF8", ""] {
            body.extend_from_slice(word.as_bytes());
            body.push(0);
        }
        let length = u32::try_from(body.len() + 4)?;
        stream.write_all(&[&length.to_be_bytes()[..], &body].concat())?;
        let answers = BufReader::new(stream.try_clone()?);
        let mut this = Self { stream, answers };
        match this.answer()? {
            None => Ok(this),
            Some(refused) => bail!("no login: {refused}"),
        }
    }

    /// Why the grammar refuses each of the texts; `None` where it does not.
    ///
    /// Behind each text stands another statement: the server says that only one may be prepared, once all of it was read
    /// and before anything of it is looked up.
    pub(crate) fn refuses(&mut self, texts: &[Vec<u8>]) -> Result<Vec<Option<String>>> {
        let mut refused = Vec::new();
        // Answers to so many fit into the buffers of the socket.
        for texts in texts.chunks(200) {
            let mut sent = Vec::new();
            for text in texts {
                let body = [b"\0", &text[..], b"\n;SELECT 1;SELECT 2\0\0\0"].concat();
                let length = u32::try_from(body.len() + 4)?;
                sent.extend([b"P", &length.to_be_bytes()[..], &body, b"S\0\0\0\x04"].concat());
            }
            self.stream.write_all(&sent)?;
            for _ in texts {
                let answer = self.answer()?.context("several statements were prepared as one")?;
                let read = answer.contains("cannot insert multiple commands");
                refused.push(Some(answer).filter(|_| !read));
            }
        }
        Ok(refused)
    }

    /// The message of the error, if there is one, up to the next ReadyForQuery.
    fn answer(&mut self) -> Result<Option<String>> {
        let mut error = None;
        loop {
            let mut head = [0; 5];
            self.answers.read_exact(&mut head).context("the server's answer")?;
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            let length = usize::try_from(length)?.checked_sub(4).context("a length")?;
            let mut body = vec![0; length];
            self.answers.read_exact(&mut body)?;
            match head[0] {
                b'Z' => return Ok(error),
                b'E' => {
                    let mut fields = body.split(|&byte| byte == 0);
                    let message = fields.find_map(|field| field.strip_prefix(b"M"));
                    error = message.map(|text| String::from_utf8_lossy(text).into_owned());
                }
                _ => {}
            }
        }
    }
}
