//! Our two sides agree whenever the password is the same, and never when a byte is not.

use proptest::prelude::*;

use super::*;

/// Offers, what a client says to each, and whether the channel is bound by it.
fn bindings() -> [(Offer, ClientBinding, Channel); 7] {
    let plus = || Offer::Plus(end_point(9));
    [
        (Offer::Plain, ClientBinding::NotOverTls, Channel::Unbound),
        (Offer::Plain, ClientBinding::NotOffered, Channel::Unbound),
        (Offer::Plain, ClientBinding::NoHash, Channel::Unbound),
        (plus(), ClientBinding::Disabled, Channel::Unbound),
        (plus(), ClientBinding::NoHash, Channel::Unbound),
        (plus(), ClientBinding::EndPoint(end_point(9)), Channel::Bound),
        (Offer::PlusRequired(end_point(9)), ClientBinding::EndPoint(end_point(9)), Channel::Bound),
    ]
}

fn password() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[ -~]{0,40}".prop_map(String::into_bytes),
        "\\PC{0,20}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..200),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn both_sides_agree(
        password in password(),
        salt in prop::collection::vec(any::<u8>(), 1..=SALT_BYTES_MAX),
        iterations in ITERATIONS_MIN..ITERATIONS_MIN + 50,
        which in 0..7_usize,
    ) {
        let (offer, binding, channel) = bindings()[which].clone();
        let verifier = Verifier::from_password(&password, &salt, iterations).expect("in limits");
        let text = verifier.expose();
        let verifier = Arc::new(Verifier::parse(text.expose_secret().as_bytes()).expect("ours"));
        let keys = Keys::derive(&password, &salt, iterations);
        let (proven, _) = exchange(&verifier, &offer, binding.clone(), &keys, |_, _| {})
            .expect("the same password");
        prop_assert_eq!(proven.channel(), channel);

        // What the proof gave away logs in again, without the password.
        let recovered = Keys::recovered(proven.client_key(), &verifier);
        exchange(&verifier, &offer, binding, &recovered, |_, _| {}).expect("the same keys");
    }

    #[test]
    fn another_password_is_refused(password in password(), other in password()) {
        prop_assume!(saslprep::prepare(&password) != saslprep::prepare(&other));
        // Keys that end in zeros are the same in HMAC.
        let cut = |bytes: &[u8]| {
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            bytes[..end].to_vec()
        };
        prop_assume!(cut(&password) != cut(&other));
        let verifier = Verifier::from_password(&password, SALT, ITERATIONS_MIN).expect("in limits");
        let keys = Keys::derive(&other, SALT, ITERATIONS_MIN);
        let result = exchange(
            &Arc::new(verifier),
            &Offer::Plain,
            ClientBinding::NotOverTls,
            &keys,
            |_, _| {},
        );
        prop_assert_eq!(result.err(), Some(ScramError::NotAuthenticated));
    }
}

proptest! {
    #[test]
    fn any_byte_changed_in_any_message_ends_it(
        which in 0..7_usize,
        message in 0..4_usize,
        at in any::<prop::sample::Index>(),
        bits in 1..=255_u8,
    ) {
        let (offer, binding, _) = bindings()[which].clone();
        let result = exchange(&verifier(), &offer, binding, &keys(), |now, bytes| {
            if now == message {
                let at = at.index(bytes.len());
                bytes[at] ^= bits;
            }
        });
        prop_assert!(result.is_err());
    }

    #[test]
    fn any_bytes_are_answered_with_an_error(
        mechanism in prop_oneof![Just(PLAIN), Just(PLUS)],
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        attributes in "[nypca=,rsvie/m0-9+]{0,60}",
    ) {
        for bytes in [&bytes[..], attributes.as_bytes()] {
            let _ = Verifier::parse(bytes);
            let offer = Offer::Plus(end_point(1));
            if let Ok((awaiting, _)) = challenged(verifier(), offer, mechanism, bytes) {
                Gs2Flag::of(bytes).expect("what a server takes has a flag");
                prop_assert!(awaiting.handle_final(bytes).is_err());
            }
            let client = || Client::new(ClientBinding::NotOverTls, nonce(1)).0;
            prop_assert!(client().handle_first(bytes).is_err());
        }
    }
}

#[test]
fn every_bit_of_every_message_matters() {
    for (offer, binding, _) in bindings() {
        let said = script(&offer, binding.clone());
        let messages =
            [&said.client_first, &said.server_first, &said.client_final, &said.server_final];
        for (message, bytes) in messages.into_iter().enumerate() {
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let result =
                        exchange(&verifier(), &offer, binding.clone(), &keys(), |now, bytes| {
                            if now == message {
                                bytes[at] ^= 1 << bit;
                            }
                        });
                    assert!(result.is_err(), "message {message}, byte {at}, bit {bit}");
                }
            }
        }
    }
}
