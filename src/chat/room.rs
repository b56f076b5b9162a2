//! The room: who is in it, and what each of them must be told. Pure state, without sockets, threads or time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::wire::ErrorCode;
use crate::wire::message::ServerMessage;
use crate::wire::name::Nick;

/// Above this many members nobody is told of single comings and goings. Ours: n members who come or go at once cost
/// n * n lines.
pub const NOTICES_MEMBERS_MAX: usize = 200;

/// Names one connection, and the member that it may become; never used twice by a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// Who a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// This one alone.
    One(MemberId),
    /// Everybody in the room.
    All,
    /// Everybody in the room but this one.
    AllBut(MemberId),
}

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Who gets it.
    pub to: Audience,
    /// What they are told.
    pub message: ServerMessage,
}

/// The nick is somebody else's, under case folding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("somebody here has this nickname")]
pub struct NickTaken;

#[derive(Debug)]
struct Member {
    nick: Nick,
    quiet: bool,
}

/// The members of one room. Deliveries must be made in the order in which they were returned: then everybody hears
/// everything in the same order.
#[derive(Debug, Default)]
pub struct Room {
    members: BTreeMap<MemberId, Member>,
    /// A nick is in here exactly as long as its member is.
    by_nick: HashMap<Nick, MemberId>,
    /// The same in order of name, as WHO tells it.
    by_name: BTreeSet<(String, MemberId)>,
    /// Who is here has changed so many times.
    changes: u64,
}

impl Room {
    /// How many are here.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody is here.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The nick of a member.
    pub fn nick(&self, id: MemberId) -> Option<&Nick> {
        self.members.get(&id).map(|member| &member.nick)
    }

    /// Who has this nick.
    pub fn holder(&self, nick: &Nick) -> Option<MemberId> {
        self.by_nick.get(nick).copied()
    }

    /// Lets somebody in who is not here yet; a `quiet` one comes, goes and changes names without a notice.
    pub fn join(&mut self, id: MemberId, nick: Nick, quiet: bool) -> Result<Vec<Delivery>, NickTaken> {
        assert!(!self.members.contains_key(&id), "a member joins once");
        if self.by_nick.contains_key(&nick) {
            return Err(NickTaken);
        }
        self.list(id, nick.clone());
        self.members.insert(id, Member { nick: nick.clone(), quiet });
        let mut deliveries = vec![one(id, ServerMessage::Welcome(nick.clone()))];
        if self.is_noticed(quiet) {
            deliveries.push(Delivery { to: Audience::AllBut(id), message: ServerMessage::Join(nick) });
        }
        Ok(deliveries)
    }

    /// Lets somebody go and frees the nick. Who is not here cannot leave: nothing happens.
    pub fn leave(&mut self, id: MemberId) -> Vec<Delivery> {
        let noticed = |member: &Member| self.is_noticed(member.quiet);
        let Some(noticed) = self.members.get(&id).map(noticed) else { return Vec::new() };
        let Member { nick, .. } = self.members.remove(&id).expect("found above");
        self.unlist(id, &nick);
        if !noticed {
            return Vec::new();
        }
        vec![Delivery { to: Audience::AllBut(id), message: ServerMessage::Leave(nick) }]
    }

    /// Somebody speaks to the room. The speaker hears it too: that is how one learns the order everybody sees.
    pub fn say(&self, id: MemberId, text: String) -> Vec<Delivery> {
        let Some(nick) = self.nick(id) else { return Vec::new() };
        vec![Delivery { to: Audience::All, message: ServerMessage::Msg(nick.clone(), text) }]
    }

    /// Somebody whispers; nobody else hears it, the whisperer neither.
    pub fn whisper(&self, id: MemberId, to: &Nick, text: String) -> Vec<Delivery> {
        let Some(nick) = self.nick(id) else { return Vec::new() };
        match self.by_nick.get(to) {
            Some(&to) => vec![one(to, ServerMessage::Pm(nick.clone(), text))],
            None => vec![refusal(id, ErrorCode::NoUser, "PM", format!("nobody here is called {to}"))],
        }
    }

    /// Somebody takes another nick; everybody is told, the one renamed too.
    pub fn rename(&mut self, id: MemberId, new: Nick) -> Vec<Delivery> {
        if self.by_nick.get(&new).is_some_and(|&owner| owner != id) {
            return vec![refusal(id, ErrorCode::NickTaken, "NICK", NickTaken.to_string())];
        }
        let Some(member) = self.members.get_mut(&id) else { return Vec::new() };
        let old = std::mem::replace(&mut member.nick, new.clone());
        let to = if member.quiet { Audience::One(id) } else { Audience::All };
        self.unlist(id, &old);
        self.list(id, new.clone());
        vec![Delivery { to, message: ServerMessage::Nick(old, new) }]
    }

    /// Somebody asks who is here: everybody, in order of name.
    pub fn who(&self, id: MemberId) -> Vec<Delivery> {
        self.who_is_here().into_iter().map(|message| one(id, message)).collect()
    }

    /// The answer to WHO. It stays the same until [`changes`](Self::changes) does.
    pub fn who_is_here(&self) -> Vec<ServerMessage> {
        let nicks: Vec<Nick> =
            self.by_name.iter().filter_map(|(_, id)| Some(self.members.get(id)?.nick.clone())).collect();
        ServerMessage::users(&nicks)
    }

    /// How often somebody has come, gone or taken another nick.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    fn list(&mut self, id: MemberId, nick: Nick) {
        self.by_name.insert((nick.as_str().to_lowercase(), id));
        self.by_nick.insert(nick, id);
        self.changes += 1;
    }

    fn unlist(&mut self, id: MemberId, nick: &Nick) {
        self.by_name.remove(&(nick.as_str().to_lowercase(), id));
        self.by_nick.remove(nick);
        self.changes += 1;
    }

    fn is_noticed(&self, quiet: bool) -> bool {
        !quiet && self.members.len() <= NOTICES_MEMBERS_MAX
    }
}

fn one(id: MemberId, message: ServerMessage) -> Delivery {
    Delivery { to: Audience::One(id), message }
}

fn refusal(id: MemberId, code: ErrorCode, request: &str, words: String) -> Delivery {
    one(id, ServerMessage::Err { code, request: request.to_owned(), words })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nick(text: &str) -> Nick {
        Nick::parse(text).expect("a nick")
    }

    /// A room with these members, numbered from 1.
    fn room_of(nicks: &[&str]) -> Room {
        let mut room = Room::default();
        for (id, name) in (1..).zip(nicks) {
            room.join(MemberId(id), nick(name), false).expect("a free nick");
        }
        room
    }

    /// The lines of the deliveries, each with its audience before it: `*` all, `-1` all but 1, `1` only 1.
    fn lines(deliveries: &[Delivery]) -> Vec<String> {
        let audience = |to| match to {
            Audience::One(id) => id.0.to_string(),
            Audience::All => "*".into(),
            Audience::AllBut(id) => format!("-{}", id.0),
        };
        deliveries.iter().map(|d| format!("{} {}", audience(d.to), d.message.emit().trim_end())).collect()
    }

    #[test]
    fn who_comes_is_welcomed_and_the_others_are_told() {
        let mut room = room_of(&["alice"]);
        let told = room.join(MemberId(2), nick("bob"), false).expect("free");
        assert_eq!(lines(&told), ["2 WELCOME_bob v=1 max=4096", "-2 JOIN_bob"]);
        assert_eq!(lines(&room.leave(MemberId(2))), ["-2 LEAVE_bob"]);
        assert_eq!(lines(&room.leave(MemberId(2))), [""; 0], "one leaves once");
    }

    #[test]
    fn a_nick_is_one_persons_in_any_case_until_she_leaves() {
        let mut room = room_of(&["Alice"]);
        assert_eq!(room.join(MemberId(2), nick("aLICE"), false), Err(NickTaken));
        room.leave(MemberId(1));
        assert!(room.join(MemberId(2), nick("aLICE"), false).is_ok());
    }

    #[test]
    fn the_room_hears_what_is_said_and_one_hears_a_whisper() {
        let room = room_of(&["alice", "bob"]);
        assert_eq!(lines(&room.say(MemberId(1), "hi".into())), ["* MSG_alice hi"]);
        assert_eq!(lines(&room.whisper(MemberId(1), &nick("BOB"), "psst".into())), ["2 PM_alice psst"]);
        assert_eq!(
            lines(&room.whisper(MemberId(1), &nick("carol"), "psst".into())),
            ["1 ERR_no-user PM nobody here is called carol"]
        );
        assert_eq!(lines(&room.say(MemberId(9), "a stranger".into())), [""; 0]);
    }

    #[test]
    fn a_new_nick_is_taken_the_old_one_is_free() {
        let mut room = room_of(&["alice", "bob"]);
        assert_eq!(
            lines(&room.rename(MemberId(1), nick("Bob"))),
            ["1 ERR_nick-taken NICK somebody here has this nickname"]
        );
        assert_eq!(lines(&room.rename(MemberId(1), nick("ALICE"))), ["* NICK_alice ALICE"]);
        assert_eq!(lines(&room.rename(MemberId(1), nick("carol"))), ["* NICK_ALICE carol"]);
        assert!(room.join(MemberId(3), nick("alice"), false).is_ok());
        assert_eq!(lines(&room.who(MemberId(2))), ["2 USERS_3 alice bob carol"]);
    }

    #[test]
    fn a_quiet_member_comes_and_goes_unannounced() {
        let mut room = room_of(&["alice"]);
        let told = room.join(MemberId(2), nick("guest-1f"), true).expect("free");
        assert_eq!(lines(&told), ["2 WELCOME_guest-1f v=1 max=4096"]);
        assert_eq!(lines(&room.rename(MemberId(2), nick("guest-2f"))), ["2 NICK_guest-1f guest-2f"]);
        assert_eq!(lines(&room.say(MemberId(2), "boo".into())), ["* MSG_guest-2f boo"]);
        assert_eq!(lines(&room.leave(MemberId(2))), [""; 0]);
    }

    #[test]
    fn a_crowd_is_not_told_of_every_coming_and_going() {
        let mut room = Room::default();
        for id in 1..=200 {
            let told = room.join(MemberId(id), nick(&format!("n{id}")), false).expect("free");
            assert_eq!(told.len(), 2, "member {id}");
        }
        assert_eq!(room.join(MemberId(201), nick("one-more"), false).expect("free").len(), 1);
        assert_eq!(room.leave(MemberId(7)), []);
        assert_eq!(lines(&room.leave(MemberId(8))), ["-8 LEAVE_n8"], "200 are few enough again");
    }
}
