//! Which ids a user has beside the own one: subuid(5), subgid(5), and the maps of a user namespace that come of it.

use super::topology::IdMap;

/// Users or groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdKind {
    /// Users.
    Uid,
    /// Groups.
    Gid,
}

impl IdKind {
    /// The table of who has which ids.
    pub fn table(self) -> &'static str {
        match self {
            IdKind::Uid => "/etc/subuid",
            IdKind::Gid => "/etc/subgid",
        }
    }

    /// The program that may map them.
    pub fn helper(self) -> &'static str {
        match self {
            IdKind::Uid => "newuidmap",
            IdKind::Gid => "newgidmap",
        }
    }

    /// The file of a process that is its user namespace's map (user_namespaces(7)).
    pub fn map_file(self) -> &'static str {
        match self {
            IdKind::Uid => "uid_map",
            IdKind::Gid => "gid_map",
        }
    }
}

/// The name of a user, by passwd(5).
pub fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// Which id outside a user namespace one inside is, by the namespace's map (user_namespaces(7)); none where it is no id there.
pub fn outside(map: &str, inside: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (first, outside, size) = (
            numbers.next()?.ok()?,
            numbers.next()?.ok()?,
            numbers.next()?.ok()?,
        );
        let at = inside.checked_sub(first).filter(|at| *at < size)?;
        outside.checked_add(at)
    })
}

/// The ranges, first id and how many, that a table gives a user, who is in it by name or by number. Lines that are none are
/// left out, as newuidmap(1) leaves them.
pub fn ranges(table: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let whose = fields.next()?;
        let is_ours = whose == number || (name == Some(whose) && !whose.is_empty());
        let (first, count) = (
            fields.next()?.parse().ok()?,
            fields.next()?.parse::<u32>().ok()?,
        );
        (is_ours && count > 0 && fields.next().is_none()).then_some((first, count))
    };
    table.lines().filter_map(range).collect()
}

/// The map of a user namespace in which this id is root, and the ids of the ranges come after it, one after the other.
pub fn maps(own: u32, ranges: &[(u32, u32)]) -> Vec<IdMap> {
    let root = IdMap {
        inside: 0,
        outside: own,
        size: 1,
    };
    let mut maps = vec![root];
    let mut inside: u32 = 1;
    for &(outside, size) in ranges {
        let size = size.min(u32::MAX - inside);
        maps.push(IdMap {
            inside,
            outside,
            size,
        });
        inside += size;
    }
    maps
}

/// Reads the maps of a user namespace, as its own processes see them.
pub fn parse(text: &str) -> Vec<IdMap> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(IdMap {
            inside: next()?,
            outside: next()?,
            size: next()?,
        })
    };
    text.lines().filter_map(line).collect()
}

/// What a map of the machine's ids is in a user namespace that has these: a line for each stretch.
///
/// # Errors
/// The first id that the namespace does not have.
pub fn translate(map: &[IdMap], had: &[IdMap]) -> Result<Vec<IdMap>, u32> {
    let mut translated = Vec::new();
    for asked in map {
        let (mut inside, mut outside, mut left) = (asked.inside, asked.outside, asked.size);
        while left > 0 {
            let of = had
                .iter()
                .find(|has| outside >= has.outside && outside - has.outside < has.size)
                .ok_or(outside)?;
            let offset = outside - of.outside;
            let size = left.min(of.size - offset);
            translated.push(IdMap {
                inside,
                outside: of.inside + offset,
                size,
            });
            left -= size;
            // Past the last of all ids there is nothing left.
            inside = inside.wrapping_add(size);
            outside = outside.wrapping_add(size);
        }
    }
    Ok(translated)
}

/// Maps as the lines of `/proc/PID/uid_map`.
pub fn lines(maps: &[IdMap]) -> String {
    let line = |map: &IdMap| format!("{} {} {}\n", map.inside, map.outside, map.size);
    maps.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str =
        "other:100000:65536\nme:165536:1000\n1000:300000:10\nme:nonsense:1\n\nme:1:0\n";

    #[test]
    fn a_users_ranges_are_found_by_name_and_by_number() {
        assert_eq!(
            ranges(TABLE, Some("me"), 1000),
            [(165_536, 1000), (300_000, 10)]
        );
        assert_eq!(ranges(TABLE, None, 1000), [(300_000, 10)]);
        assert_eq!(ranges(TABLE, Some("nobody"), 99), []);
    }

    #[test]
    fn ranges_follow_the_own_id() {
        let maps = maps(1000, &[(165_536, 1000), (300_000, 10)]);
        assert_eq!(lines(&maps), "0 1000 1\n1 165536 1000\n1001 300000 10\n");
        assert_eq!(lines(&super::maps(1000, &[])), "0 1000 1\n");
    }

    #[test]
    fn the_machines_ids_become_those_of_the_namespace() {
        let had = parse("         0       1000          1\n         1     100000      65536\n");
        assert_eq!(lines(&had), "0 1000 1\n1 100000 65536\n");
        let asked = parse("0 1000 1");
        assert_eq!(lines(&translate(&asked, &had).unwrap()), "0 0 1\n");
        let asked = parse("0 100010 20");
        assert_eq!(lines(&translate(&asked, &had).unwrap()), "0 11 20\n");
        assert_eq!(translate(&parse("0 0 1"), &had), Err(0));
        assert_eq!(translate(&parse("0 165535 2"), &had), Err(165_536));
        let beside = parse("0 1 10\n10 11 10");
        assert_eq!(
            lines(&translate(&parse("5 6 10"), &beside).unwrap()),
            "5 5 5\n10 10 5\n"
        );
    }

    #[test]
    fn a_name_is_that_of_the_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000), Some("me"));
        assert_eq!(user_name(passwd, 1001), None);
        let map = "         0       1000          1\n         1     100000      65536\n";
        let found = [0, 1, 65536, 65537].map(|inside| outside(map, inside));
        assert_eq!(found, [Some(1000), Some(100_000), Some(165_535), None]);
        let all = "         0          0 4294967295\n";
        assert_eq!(outside(all, 1000), Some(1000));
    }
}
