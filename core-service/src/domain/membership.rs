//! Who is in a conversation after a change: who comes, who goes, whose role changes, and who owns it then.

use std::collections::HashSet;

use proto::ids::{Timestamp, UserId};

use super::conversation::{ConversationRecord, ConversationType, Member, Role};

/// What a request asks for. Who is in both of two lists is removed.
#[derive(Clone, Debug, Default)]
pub(super) struct WantedMembers {
    /// To become members, in this order.
    pub(super) add: Vec<UserId>,
    /// To be members no longer.
    pub(super) remove: HashSet<UserId>,
    /// To become admins, and members where they are none.
    pub(super) add_admins: Vec<UserId>,
    /// To be admins no longer.
    pub(super) remove_admins: HashSet<UserId>,
}

/// What is to be done so that a conversation has the members a request asks for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct MembersPlan {
    /// Who comes, last in join order.
    pub(super) added: Vec<Member>,
    /// Who goes, in join order.
    pub(super) removed: Vec<UserId>,
    /// Who of those that stay gets another role.
    pub(super) roles: Vec<(UserId, Role)>,
    /// Who owns it afterwards, where that changes.
    pub(super) owner_id: Option<UserId>,
    /// How many are in it afterwards.
    pub(super) count: usize,
}

impl WantedMembers {
    /// That one user goes.
    pub(super) fn without(user_id: UserId) -> Self {
        Self { remove: HashSet::from([user_id]), ..Self::default() }
    }

    /// The plan for this conversation. Only those who exist can come; they join `at` this time.
    ///
    /// The owner stays the owner unless he goes. Then the admin follows who has been in it for the longest time, else the
    /// member who has; those who only come with the same request are last.
    pub(super) fn plan(&self, record: &ConversationRecord, existing: &HashSet<UserId>, at: Timestamp) -> MembersPlan {
        let mut plan = MembersPlan::default();
        let mut staying = Vec::new();
        for member in &record.members {
            if self.remove.contains(&member.user_id) {
                plan.removed.push(member.user_id);
            } else {
                staying.push(Member { role: self.role_of(member.user_id, member.role), ..member.clone() });
            }
        }
        let mut known: HashSet<_> = record.members.iter().map(|member| member.user_id).collect();
        let new_admins = self.add_admins.iter().filter(|user_id| !self.remove_admins.contains(user_id));
        for &user_id in self.add.iter().chain(new_admins) {
            if existing.contains(&user_id) && !self.remove.contains(&user_id) && known.insert(user_id) {
                let role = self.role_of(user_id, Role::Plain);
                plan.added.push(Member { user_id, role, joined_at: at });
            }
        }
        let has_owner = record.conversation.kind == ConversationType::Private
            || staying.iter().any(|member| member.role == Role::Owner);
        if !has_owner && let Some(heir) = heir(&mut staying, &mut plan.added) {
            heir.role = Role::Owner;
            plan.owner_id = Some(heir.user_id);
        }
        plan.count = staying.len() + plan.added.len();
        plan.roles = staying
            .into_iter()
            .filter(|member| record.member(member.user_id).is_some_and(|before| before.role != member.role))
            .map(|member| (member.user_id, member.role))
            .collect();
        plan
    }

    fn role_of(&self, user_id: UserId, role: Role) -> Role {
        match role {
            Role::Owner => Role::Owner,
            Role::Admin | Role::Plain if self.remove_admins.contains(&user_id) => Role::Plain,
            Role::Admin | Role::Plain if self.add_admins.contains(&user_id) => Role::Admin,
            Role::Admin | Role::Plain => role,
        }
    }
}

impl MembersPlan {
    /// Whether it does nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.roles.is_empty()
    }
}

fn heir<'a>(staying: &'a mut [Member], added: &'a mut [Member]) -> Option<&'a mut Member> {
    let members = if staying.is_empty() { added } else { staying };
    let admin = members.iter().position(|member| member.role == Role::Admin);
    members.get_mut(admin.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proto::ids::ConversationId;

    use super::*;
    use crate::domain::conversation::Conversation;
    use crate::domain::organization::OrganizationId;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn user(number: u8) -> UserId {
        UserId::from_bytes([number; 12])
    }

    /// A group of the users 1 to 4: the owner, a plain member, an admin, another admin.
    fn group() -> ConversationRecord {
        let roles = [Role::Owner, Role::Plain, Role::Admin, Role::Admin];
        let members = roles.into_iter().zip(1..);
        ConversationRecord {
            conversation: Conversation {
                id: ConversationId::from_bytes([9; 12]),
                kind: ConversationType::Group,
                organization_id: OrganizationId::default(),
                owner_id: user(1),
                opponent_id: None,
                name: Some("Team".to_owned()),
                description: None,
                image: None,
                is_encrypted: false,
                changed_at: NOW,
            },
            version: 1,
            members: members.map(|(role, number)| Member { user_id: user(number), role, joined_at: NOW }).collect(),
        }
    }

    fn plan(wanted: &WantedMembers) -> MembersPlan {
        let existing = (1..=6).map(user).collect();
        wanted.plan(&group(), &existing, NOW.plus_millis(1))
    }

    fn users<C: FromIterator<UserId>>(numbers: &[u8]) -> C {
        numbers.iter().copied().map(user).collect()
    }

    fn new(number: u8, role: Role) -> Member {
        Member { user_id: user(number), role, joined_at: NOW.plus_millis(1) }
    }

    #[test]
    fn the_longest_serving_admin_follows_the_owner() {
        let plan = plan(&WantedMembers::without(user(1)));
        assert_eq!(plan.owner_id, Some(user(3)));
        assert_eq!(plan.roles, [(user(3), Role::Owner)]);
        assert_eq!((plan.removed, plan.count), (vec![user(1)], 3));
    }

    #[test]
    fn without_an_admin_the_longest_serving_member_follows_and_who_only_comes_is_last() {
        let wanted = WantedMembers { remove: users(&[1, 3, 4]), add_admins: users(&[5]), ..Default::default() };
        let plan = plan(&wanted);
        assert_eq!((plan.owner_id, &plan.roles[..]), (Some(user(2)), &[(user(2), Role::Owner)][..]));
        assert_eq!(plan.added, [new(5, Role::Admin)]);
    }

    #[test]
    fn where_nobody_stays_who_comes_owns_it() {
        let wanted = WantedMembers {
            remove: users(&[1, 2, 3, 4]),
            add: users(&[5]),
            add_admins: users(&[6]),
            ..Default::default()
        };
        let plan = plan(&wanted);
        assert_eq!(plan.owner_id, Some(user(6)));
        assert_eq!(plan.added, [new(5, Role::Plain), new(6, Role::Owner)]);
        assert_eq!(
            super::WantedMembers { remove: users(&[1, 2, 3, 4]), ..Default::default() }
                .plan(&group(), &HashSet::new(), NOW)
                .count,
            0
        );
    }

    #[test]
    fn who_is_in_both_lists_is_removed() {
        let wanted = WantedMembers {
            add: users(&[2, 5]),
            remove: users(&[2, 5]),
            add_admins: users(&[3, 6, 2]),
            remove_admins: users(&[3, 6]),
        };
        let plan = plan(&wanted);
        assert_eq!((plan.added, plan.removed), (vec![], vec![user(2)]));
        assert_eq!((plan.roles, plan.owner_id), (vec![(user(3), Role::Plain)], None));
    }

    #[test]
    fn the_owner_is_neither_promoted_nor_demoted() {
        let wanted =
            WantedMembers { add_admins: users(&[1, 2]), remove_admins: users(&[1]), ..WantedMembers::default() };
        assert_eq!(plan(&wanted).roles, [(user(2), Role::Admin)]);
    }

    #[test]
    fn what_is_so_already_is_no_change() {
        let wanted = WantedMembers {
            add: users(&[1, 2, 3, 7]),
            remove: users(&[5]),
            add_admins: users(&[3, 8]),
            remove_admins: users(&[2, 6]),
        };
        assert!(plan(&wanted).is_empty());
    }

    #[test]
    fn whoever_is_named_twice_comes_once_and_as_what_he_shall_be() {
        let wanted = WantedMembers { add: users(&[5, 5, 6]), add_admins: users(&[6]), ..WantedMembers::default() };
        assert_eq!(plan(&wanted).added, [new(5, Role::Plain), new(6, Role::Admin)]);
    }
}
