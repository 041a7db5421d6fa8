#pragma once

#include "attestation/base/hex.h"
#include "attestation/crypto/random.h"
#include "tests/support/broker_process.h"
#include "tests/support/matchers.h"

namespace sallyport::test {

// make_revocation makes a statement that is a whole case by itself: ivan revokes some case. `digest` is the
// statement's.
inline record::Submission make_revocation(const BrokerProcess& world, Digest256& digest) {
  const CaseId id = crypto::random_case_id();
  const record::Revocation revocation{.authority = world.company.company.policy.origin,
                                      .case_id = id,
                                      .kind = record::RevocationKind::kCase,
                                      .person = SampleCompany::id("ivan"),
                                      .reason = "drill",
                                      .target = to_hex(crypto::random_case_id()),
                                      .time = BrokerProcess::wall_clock()};
  const Bytes payload = record::encode(revocation);
  digest = record::statement_digest(record::payload_type(record::Kind::kRevocation), payload);
  return {world.company.sign_payload(record::payload_type(record::Kind::kRevocation), payload,
                                     world.company.company.token("ivan")),
          {}};
}

inline record::Submission make_revocation(const BrokerProcess& world) {
  Digest256 of_no_interest;
  return make_revocation(world, of_no_interest);
}

// Access takes the steps of an access at a real broker, one connection for each; machines are enrolled first.
class Access {
 public:
  explicit Access(BrokerProcess& process) : world(process) {
    enrol("laptop", "erin");
    for (const char* person : {"alice", "bob", "dana"}) enrol(person + std::string{"-laptop"}, person);
  }

  OpenCase request(const std::vector<std::string>& approvers = {"alice", "bob", "dana"}) {
    world.replay();
    ApiPeer erin = value_of(world.peer("erin"));
    SoftTpm& tpm = world.company.machine("laptop");
    value_of(erin.attest(tpm));
    const OpenCase open = world.company.make_request({.note = value_of(erin.head())});
    EXPECT_EQ(value_of(erin.submit(open.submission)).state, "open");
    for (const std::string& person : approvers) approve(open, person);
    return open;
  }

  void approve(const OpenCase& open, const std::string& person) {
    world.replay();
    ApiPeer approver = value_of(world.peer(person));
    const std::string note = value_of(approver.head());
    EXPECT_THAT(approver.submit(world.company.make_approval(open.id, person, {.note = note})), Succeeds());
    world.replay();
  }

  // activate asks once; every part of it may be repeated.
  Result<api::Activated> activate(const OpenCase& open) {
    SP_TRY(ApiPeer erin, world.peer("erin"));
    SP_CHECK(erin.attest(world.company.machine("laptop")));
    SP_TRY(const std::string note, erin.head());
    return erin.activate(open.id, world.company.activation(open, {.note = note}));
  }

  void enrol(const std::string& machine, const std::string& person) {
    SoftTpm tpm;
    const CaseId id = crypto::random_case_id();
    world.replay();
    ApiPeer asker = value_of(world.peer(person));
    EXPECT_THAT(
        asker.submit(world.company.enrolment_request(tpm, {.machine = machine, .person = person}, id)),
        Succeeds());
    for (const std::string approver : {"frank", "grace"}) {
      world.replay();
      ApiPeer peer = value_of(world.peer(approver));
      EXPECT_THAT(peer.submit(world.company.make_approval(id, approver, {})), Succeeds());
    }
    world.replay();
    EXPECT_NE(world.company.follower.find_device(tpm.device()), nullptr);
    world.company.machines.emplace(machine, std::move(tpm));
  }

  BrokerProcess& world;
};

}  // namespace sallyport::test
