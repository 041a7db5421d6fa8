#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "attestation/base/result.h"
#include "attestation/base/strong.h"
#include "attestation/crypto/public_key.h"
#include "attestation/policy/network.h"

namespace sallyport::policy {

inline constexpr std::size_t kMaxPolicyBytes = 1024 * 1024;
inline constexpr std::chrono::seconds kMaxGrantDuration = std::chrono::hours{8};
inline constexpr unsigned kMaxQuorum = 64;  // people in all clauses of one quorum

// One clause of a quorum: `approvals` distinct members of `group`.
struct Clause {
  GroupId group;
  unsigned approvals = 0;
  friend bool operator==(const Clause&, const Clause&) = default;
};
using Quorum = std::vector<Clause>;  // all clauses, by distinct people; no group twice

struct AuthorityKeys {
  crypto::PublicKey log;     // Ed25519 or P-256: checkpoints only
  crypto::PublicKey ssh_ca;  // P-256, as are all below
  crypto::PublicKey x509_ca;
  crypto::PublicKey lease;
  crypto::PublicKey secrets;
};

// Who may publish the weekly rota, and of which groups: it may only choose among people whom the policy lists
// in them.
struct RosterRight {
  GroupId group;
  unsigned approvals = 0;
  std::vector<GroupId> may_fill;
};

// EraseRight is who may have the bodies of closed access cases erased, and how old those must be. The
// retention counts from a case's first leaf; it is longer than a case can live and be remembered.
struct EraseRight {
  Quorum quorum;
  std::chrono::seconds retention{0};
};
inline constexpr std::chrono::seconds kMinRetention = std::chrono::hours{7 * 24};
inline constexpr std::chrono::seconds kMaxRetention = std::chrono::hours{100 * 365 * 24};

// Continues names the log that this one goes on from, at the last state of it that anybody signed.
struct Continues {
  Origin origin;
  TreeSize size;
  Digest256 root;
  Digest256 state;  // SHA-256 of the bytes of its ControlState at that size
  friend bool operator==(const Continues&, const Continues&) = default;
};

struct Authority {
  Origin origin;
  std::optional<Continues> continues;  // of the first policy of a log that is not its authority's first
  RegionId region;
  AuthorityKeys keys;
  std::string
      witnesses;  // tlog-policy text; parsed, and its 2k > n judged, by the reader that links `ledger`
  std::optional<Digest256>
      references;           // of the reference values' blob; absent: the baseline signed at enrolment
  Digest256 tpm_roots;      // of the PEM bundle of TPM vendor roots, which travels beside the policy
  bool expired_ek = false;  // an EK certificate counts after its time
  Quorum change;            // of the next policy
  Quorum enrol;             // of a machine
  GroupId revoke;           // any one member may revoke
  GroupId readers;          // auditors
  std::vector<std::string> endpoints;  // "https://host[:port]"
  std::vector<crypto::PublicKey> tls;  // keys the endpoints may show
  std::optional<RosterRight> roster;
  std::optional<EraseRight> erase;  // absent: nothing is ever erased
  std::optional<GroupId> hold;      // any one member may hold cases from being erased, and lift a hold
};

struct Region {
  RegionId id;
  std::vector<Network> networks;
  std::vector<std::string> countries;  // ISO 3166-1 alpha-2, upper case
};

enum class TokenKind : std::uint8_t { kP256 };  // a PIV-like token with a P-256 key

struct Token {
  std::string id;
  TokenKind kind = TokenKind::kP256;
  crypto::PublicKey sign;
  std::optional<crypto::PublicKey> agree;  // absent: this token can hold no share of a sealed secret
};

struct Person {
  PersonId id;
  RegionId region;
  std::string team;
  std::vector<GroupId> groups;
  std::vector<Token> tokens;
};

enum class ResourceKind : std::uint8_t { kSsh, kX509, kSecret };
std::string_view resource_kind_name(ResourceKind kind);  // "ssh", "x509", "secret"

struct Host {
  std::string name;
  std::string address;  // DNS name or IP address
  std::uint16_t port = 0;
  std::vector<std::string> keys;  // of the host, at least one: "SHA256:…", as ssh-keygen -l prints
};

struct Resource {
  ResourceId id;
  ResourceKind kind = ResourceKind::kSsh;
  std::string data;         // the class of data behind it: a label for people
  std::vector<Host> hosts;  // at least one, but none for kSecret
};

// What an approver must be, apart from a member of the clause's group.
struct ApproverCondition {
  std::vector<RegionId> regions;  // the approver's region is one of these; empty: nobody's is
  bool other_team = true;         // in another team than requester and beneficiary
  bool attested = true;           // signed at an attested machine
  friend bool operator==(const ApproverCondition&, const ApproverCondition&) = default;
};

struct Limits {
  std::chrono::seconds duration{0};
  std::vector<std::string> accounts;  // the first is the default; none for kSecret
  std::string command;                // "": any command (a shell)
  bool record = true;                 // record = "off" in the rule makes it false
};

struct Rule {
  RuleId id;
  std::vector<ResourceId> resources;
  std::vector<RegionId> requester_regions;
  std::vector<GroupId> requester_groups;  // empty: any group, or none
  std::vector<RegionId> device_regions;
  std::vector<RegionId> network_regions;
  Quorum quorum;
  ApproverCondition approver;
  Limits limits;
};

// Roster is the rota in force: who of a group's members is on duty. A group that is not in it has all its
// members.
struct Roster {
  std::map<GroupId, std::set<PersonId>> on_duty;
};

// Roll is the people of a policy.
struct Roll {
  std::vector<Person> persons;
  std::map<PersonId, std::size_t> person_at;  // made by parse_policy, as is:
  std::map<GroupId, std::vector<std::size_t>> members;
};

// Policy is a document that parse_policy accepted; it is not built or changed by hand.
struct Policy : Roll {
  std::string text;  // verbatim
  Digest256 digest;  // SHA-256 of `text`
  std::uint64_t version = 0;
  std::optional<Digest256> previous;  // digest of version − 1; absent in version 1 and only there
  Authority authority;
  std::vector<Region> regions;
  std::vector<Resource> resources;
  std::vector<Rule> rules;

  // Made by parse_policy for the look-ups below.
  std::map<KeyId, std::pair<std::size_t, std::size_t>> token_at;  // signing keys: person, token
  std::map<ResourceId, std::size_t> resource_at;
  std::map<std::string, std::pair<std::size_t, std::size_t>, std::less<>> host_at;  // resource, host
};

// parse_policy reads a policy document (TOML 1.0 in printable ASCII, without floats, dates and \u escapes)
// and refuses it unless every rule of DESIGN §7 holds.
//   Proves:         the document is complete and consistent in itself: all names resolve, all keys are
//   different, regions' networks are
//                   disjoint, every quorum can be filled by distinct people of the right region who have a
//                   token.
//   Does not prove: that anybody signed it, that it succeeds another (check_successor), that the witnesses'
//   text is a sound
//                   tlog-policy (only that it names a witness and a quorum), or that the blobs it names
//                   exist.
//   Errors:         kMalformed with Reason::kPolicyInvalid; `what` says where ("line 12,
//   rule.1.limits.duration: …").   Pure.
Result<Policy> parse_policy(std::string_view toml);

// check_successor checks that `next` is version + 1 of `current`, names its digest, and is of the same origin
// and region.
//   Does not prove: that the change quorum signed it. Errors: kDenied with Reason::kPolicyNotSuccessor.
Status check_successor(const Policy& current, const Policy& next);

// check_continuation checks the same of the first policy of another log of this authority, which continues
// the log of `current`.
//   Does not prove: that the change quorum signed it, or anything about the state that it names. Errors: the
//   same.
Status check_continuation(const Policy& current, const Policy& next);

// check_roster checks that each group of `roster` is one that the rota may fill, and that its people are
// listed in that group. Errors: kDenied with Reason::kPolicyInvalid.
Status check_roster(const Policy& policy, const Roster& roster);

struct TokenOwner {
  const Person* person;
  const Token* token;
};
struct HostOfResource {
  const Resource* resource;
  const Host* host;
};

// Look-ups; the pointers live as long as `policy`.
const Region* find_region(const Policy& policy, const RegionId& id);
const Person* find_person(const Roll& people, const PersonId& id);
std::optional<TokenOwner> find_token(const Policy& policy, const KeyId& signing_key);
const Resource* find_resource(const Policy& policy, const ResourceId& id);
std::optional<HostOfResource> find_host(const Policy& policy,
                                        std::string_view name);  // host names are unique in a policy
const Rule* find_rule(const Policy& policy, const RuleId& id);

// is_member: listed in the group by the policy and, where the roster has that group, on duty.
bool is_member(const Person& person, const GroupId& group, const Roster& roster = {});

// region_of_address gives the region of the address that the broker saw, or "unknown". `country` is what the
// geolocation database says of it, "" where it says nothing. A region that has networks and countries needs
// both to agree; only for addresses that are not globally reachable, which no database knows, the networks
// alone decide. Different answers, no answer, or an address that does not parse: "unknown".
RegionId region_of_address(const Policy& policy, std::string_view address, std::string_view country);
RegionId unknown_region();
// region_of_person gives the region of a person, or "unknown" of one whom the policy does not have.
RegionId region_of_person(const Policy& policy, const PersonId& id);

// source_networks gives the networks of the regions that the rule takes requests from, in policy order: the
// `source-address` of its certificates. Never empty for a rule of a loaded policy.
std::vector<std::string> source_networks(const Policy& policy, const Rule& rule);

}  // namespace sallyport::policy
