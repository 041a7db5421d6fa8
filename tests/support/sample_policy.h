#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attestation/base/bytes.h"
#include "attestation/base/strong.h"
#include "attestation/crypto/private_key.h"

namespace sallyport::test {

// The parts of a policy document, as a test wants them; nothing is checked here.
struct SampleClause {
  std::string group;
  unsigned approvals = 1;
};
struct SampleRegion {
  std::string id;
  std::vector<std::string> networks, countries;
};
struct SampleToken {
  std::string id;
  crypto::PublicKey sign;
  std::optional<crypto::PublicKey> agree = {};
};
struct SamplePerson {
  std::string id, region, team;
  std::vector<std::string> groups;
  std::vector<SampleToken> tokens;
};
struct SampleHost {
  std::string name, address;
  std::uint16_t port = 22;
  std::vector<std::string> keys;  // fingerprints
};
struct SampleResource {
  std::string id, kind = "ssh", data = "user";
  std::vector<SampleHost> hosts;
};
struct SampleRule {
  std::string id;
  std::vector<std::string> resources;
  std::vector<std::string> requester_regions, requester_groups;
  std::vector<std::string> device_regions, network_regions;
  std::vector<SampleClause> quorum;
  std::string approver;  // TOML, such as `{ attested = false }`; "": absent
  std::string duration = "15m";
  std::vector<std::string> accounts;
  std::string command;  // "": absent
  std::string record;   // "": absent
};
struct SampleWitness {
  std::string name;
  crypto::PublicKey key;  // Ed25519
  std::string url;
};

// SamplePolicy prints a policy document. `toml()` is a pure function of the members.
struct SamplePolicy {
  std::uint64_t version = 1;
  std::optional<Digest256> previous;
  std::string origin, region;
  std::string continues = {};  // TOML table; "": absent
  crypto::PublicKey log, ssh_ca, x509_ca, lease, secrets;
  std::vector<SampleWitness> witnesses;
  unsigned witness_quorum = 0;
  Bytes tpm_roots;  // the PEM bundle itself
  std::string references = {};  // the document itself; "": absent
  std::vector<SampleClause> change, enrol;
  std::string revoke, readers;
  std::vector<std::string> endpoints;
  std::vector<crypto::PublicKey> tls;
  std::string roster;  // TOML table; "": absent
  std::string erase = {}, hold = {};  // TOML table, group; "": absent
  std::vector<SampleRegion> regions;
  std::vector<SamplePerson> persons;
  std::vector<SampleResource> resources;
  std::vector<SampleRule> rules;

  std::string witness_text() const;  // tlog-policy
  std::string toml() const;

  SamplePerson& person(std::string_view id);
  SampleResource& resource(std::string_view id);
  SampleRule& rule(std::string_view id);
};

// vkey_text gives C2SP vkey text of an Ed25519 key: type 0x01 for a log, 0x04 for a witness.
std::string vkey_text(std::string_view name, std::uint8_t type, const crypto::PublicKey& key);

// SampleCompany is a company with two regions, fresh keys for everybody and everything, and a policy like
// DESIGN §7's sketch:
//   us: erin (sre; db-oncall), alice (trust; us-oncall, leads), bob (storage; us-oncall), carol (net;
//   us-oncall, privacy),
//       dana (legal; privacy, us-legal), frank (it; fleet), grace (sec; security), heidi (sec; security),
//       judy (sec; security), karl (sec; security), leo (sec; security), ivan (ir; incident), olga (audit;
//       audit), mona (sre; us-oncall)
//   cn: wei, li (apps; apac-dev)
//   user-db has hosts db-7 and db-8. Rules: us-oncall-to-user-db (dbadmin, 15 min; 2 us-oncall, 1 privacy),
//   foreign-read-only (cn; readonly, 5 min, a command; 2 us-oncall, 1 us-legal). Changing takes 3 of
//   security, enrolling 1 of fleet and 1 of security.
// People's ids end in "@corp.example"; each has a token "<name>-yk1".
class SampleCompany {
 public:
  SampleCompany();

  crypto::PrivateKey log, ssh_ca, x509_ca, lease, secrets, tls;
  SamplePolicy policy;                        // a test may change it
  std::vector<crypto::PrivateKey> witnesses;  // as policy.witnesses; four, of which three must cosign
  std::map<std::string, crypto::PrivateKey> host_keys;  // Ed25519, by host name
  std::map<std::string, crypto::PrivateKey>
      tokens;  // by person id: the signing key of the person's first token

  // add_person puts a person with a fresh token "<name>-yk1" into policy and tokens. `name` is without
  // "@corp.example".
  SamplePerson& add_person(std::string name, std::string region, std::string team,
                           std::vector<std::string> groups);
  // token gives the key of "erin" or "erin@corp.example".
  const crypto::PrivateKey& token(std::string_view person) const;
  static std::string id(std::string_view name);  // "erin" → "erin@corp.example"
};

}  // namespace sallyport::test
