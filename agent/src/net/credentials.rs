//! What the agent has of a role's secret, from wherever the configuration says.
//!
//! An account comes first, then the verifier file, then the lookup.

use std::{sync::Arc, time::Instant as Clock};

use pgward_common::Flow;
use thiserror::Error;
use tokio::time::Instant;

use super::{
    lookup::{self, LookupError},
    route::Route,
    worker::Context,
};
use crate::{
    config,
    pg::{handshake::Credentials, scram::Verifier},
    secrets::{AccountSecrets, Claim, SecretError, VerifierKey},
};

/// A secret that should be there could not be had: the login ends.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// From a file, the environment or a command.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// From the server.
    #[error("the verifier could not be looked up")]
    Lookup(#[from] LookupError),
}

/// Whose secret, for which connection.
pub struct Asked<'a> {
    /// Everything.
    pub context: &'a Context,
    /// Where to.
    pub route: &'a Route,
    /// For whom.
    pub flow: &'a Flow,
    /// The role that the application named.
    pub role: &'a [u8],
    /// Until when.
    pub deadline: Instant,
}

impl Asked<'_> {
    /// What is at hand.
    pub async fn find(&self) -> Result<Credentials, CredentialsError> {
        let destination = &self.route.destination;
        if let Some((account, secrets)) = destination.account(self.role) {
            return Self::of_account(account, secrets).await;
        }
        if let Some(file) = &destination.verifiers
            && let Some(verifier) = file.lookup(self.role).await?
        {
            return Ok(Credentials::Shared(verifier));
        }
        match &destination.settings.auth.lookup {
            Some(lookup) => Ok(match self.looked_up(lookup).await? {
                Some(verifier) => Credentials::Shared(verifier),
                None => Credentials::Absent,
            }),
            None => Ok(Credentials::Absent),
        }
    }

    /// The same, when what was found is not the server's (any more).
    pub async fn find_again(&self) -> Result<Credentials, CredentialsError> {
        self.forget();
        if let Some((_, secrets)) = self.route.destination.account(self.role) {
            secrets.evict_verifier().await;
        }
        self.find().await
    }

    /// The server refused what the cached verifier led to.
    pub fn forget(&self) {
        self.context.destinations.cache.evict(&self.key());
    }

    async fn of_account(
        account: &config::Account,
        secrets: &AccountSecrets,
    ) -> Result<Credentials, CredentialsError> {
        let Some(application) = secrets.verifier(Clock::now()).await? else {
            return Ok(Credentials::Absent);
        };
        // Without a password of ours the application's own proof has to do.
        let own = account.password.is_none() && account.login == account.role;
        Ok(match own {
            true => Credentials::Shared(application),
            false => Credentials::Account { application },
        })
    }

    async fn looked_up(
        &self,
        lookup: &config::Lookup,
    ) -> Result<Option<Arc<Verifier>>, CredentialsError> {
        let key = self.key();
        match self.context.destinations.cache.claim(&key, Clock::now()).await {
            Claim::Found(verifier) => Ok(Some(verifier)),
            Claim::Missing => Ok(None),
            Claim::Fetch(fetch) => {
                let found = lookup::verifier(self, lookup).await?;
                let now = Clock::now();
                match found {
                    Some(verifier) => {
                        let verifier = Arc::new(verifier);
                        fetch.put(verifier.clone(), now, lookup.ttl);
                        Ok(Some(verifier))
                    }
                    None => {
                        fetch.put_missing(now);
                        Ok(None)
                    }
                }
            }
        }
    }

    fn key(&self) -> VerifierKey {
        VerifierKey {
            destination: self.route.destination.index,
            server: self.route.address,
            netns: self.flow.opener.netns_cookie,
            role: self.role.into(),
        }
    }
}
