#pragma once

#include <algorithm>
#include <atomic>
#include <utility>

#include "attestation/base/error.h"

namespace sallyport {

// PersistentMap is an ordered map whose copy costs nothing, however much is in it: copies share their nodes,
// and a change makes anew the nodes on the way to it, of which there are O(log n). What a copy is given shows
// in no other, and pointers into a map are good until that map is changed. Copies may be used and changed by
// several threads, each by one at a time.
template <class Key, class Value>
class PersistentMap {
 public:
  bool empty() const { return !root_; }
  std::size_t size() const { return root_ ? root_->count : 0; }

  const Value* find(const Key& key) const {
    const Node* at = root_.get();
    while (at != nullptr) {
      if (key < at->key)
        at = at->left.get();
      else if (at->key < key)
        at = at->right.get();
      else
        return &at->value;
    }
    return nullptr;
  }
  bool contains(const Key& key) const { return find(key) != nullptr; }

  // first gives the smallest key with its value; the map must not be empty.
  std::pair<const Key&, const Value&> first() const {
    SP_ASSERT(root_);
    const Node* at = root_.get();
    while (at->left) at = at->left.get();
    return {at->key, at->value};
  }

  // edit gives the value of a key, to be changed; it is made, empty, where there is none.
  Value& edit(const Key& key) { return edit(root_, key); }
  // erase removes a key, if it is there.
  void erase(const Key& key) {
    if (contains(key)) erase(root_, key);
  }

  // for_each calls `with(key, value)` in the order of the keys.
  template <class With>
  void for_each(With&& with) const {
    for_each(root_.get(), with);
  }

 private:
  struct Node;
  // Shared is one of the owners of a node. Not std::shared_ptr: a node that has one owner alone is changed in
  // place, and use_count() does not wait for what other owners did before they let go.
  class Shared {
   public:
    Shared() = default;
    explicit Shared(Node* made) : node_(made) {}
    Shared(const Shared& other) : node_(other.node_) {
      if (node_ != nullptr) node_->owners.fetch_add(1, std::memory_order_relaxed);
    }
    Shared(Shared&& other) noexcept : node_(std::exchange(other.node_, nullptr)) {}
    Shared& operator=(Shared other) noexcept {
      std::swap(node_, other.node_);
      return *this;
    }
    ~Shared() {
      if (node_ != nullptr && node_->owners.fetch_sub(1, std::memory_order_acq_rel) == 1) delete node_;
    }
    explicit operator bool() const { return node_ != nullptr; }
    const Node* get() const { return node_; }
    const Node* operator->() const { return node_; }
    // own gives the node to be changed: itself when nobody else has it, or a copy.
    Node& own() {
      if (node_->owners.load(std::memory_order_acquire) != 1) *this = Shared{new Node{*node_}};
      return *node_;
    }

   private:
    Node* node_ = nullptr;
  };
  // An AVL tree: the heights of two siblings differ by one at most.
  struct Node {
    explicit Node(Key k) : key(std::move(k)) {}
    Node(const Node& other)
        : key(other.key),
          value(other.value),
          left(other.left),
          right(other.right),
          height(other.height),
          count(other.count) {}
    std::atomic<std::size_t> owners{1};
    Key key;
    Value value{};
    Shared left, right;
    int height = 1;
    std::size_t count = 1;
  };

  static int height(const Shared& at) { return at ? at->height : 0; }
  static std::size_t count(const Shared& at) { return at ? at->count : 0; }
  static void measure(Node& node) {
    node.height = 1 + std::max(height(node.left), height(node.right));
    node.count = 1 + count(node.left) + count(node.right);
  }

  // rotate lifts the child on `up`'s side over `at`.
  static void rotate(Shared& at, Shared Node::*up, Shared Node::*down) {
    Shared child = std::exchange(at.own().*up, {});
    Node& lifted = child.own();
    Node& lowered = at.own();
    lowered.*up = std::exchange(lifted.*down, {});
    measure(lowered);
    lifted.*down = std::exchange(at, {});
    measure(lifted);
    at = std::move(child);
  }
  static void balance(Shared& at) {
    Node& node = at.own();
    measure(node);
    const int lean = height(node.left) - height(node.right);
    if (lean > 1) {
      if (height(node.left->left) < height(node.left->right)) rotate(node.left, &Node::right, &Node::left);
      rotate(at, &Node::left, &Node::right);
    } else if (lean < -1) {
      if (height(node.right->right) < height(node.right->left)) rotate(node.right, &Node::left, &Node::right);
      rotate(at, &Node::right, &Node::left);
    }
  }

  static Value& edit(Shared& at, const Key& key) {
    if (!at) {
      at = Shared{new Node{key}};
      return at.own().value;
    }
    Node& node = at.own();
    if (!(key < node.key) && !(node.key < key)) return node.value;
    Value& value = edit(key < node.key ? node.left : node.right, key);
    balance(at);  // moves nodes, not values
    return value;
  }

  static void erase(Shared& at, const Key& key) {
    Node& node = at.own();
    if (key < node.key) {
      erase(node.left, key);
    } else if (node.key < key) {
      erase(node.right, key);
    } else if (!node.left || !node.right) {
      Shared child = std::move(node.left ? node.left : node.right);
      at = std::move(child);
      return;
    } else {
      Shared next = take_first(node.right);
      Node& heir = next.own();
      heir.left = std::move(node.left);
      heir.right = std::move(node.right);
      at = std::move(next);
    }
    balance(at);
  }
  // take_first takes the smallest node out.
  static Shared take_first(Shared& at) {
    Node& node = at.own();
    if (!node.left) {
      Shared rest = std::move(node.right);
      return std::exchange(at, std::move(rest));
    }
    Shared first = take_first(node.left);
    balance(at);
    return first;
  }

  template <class With>
  static void for_each(const Node* at, With& with) {
    if (at == nullptr) return;
    for_each(at->left.get(), with);
    with(at->key, at->value);
    for_each(at->right.get(), with);
  }

  Shared root_;
};

}  // namespace sallyport
