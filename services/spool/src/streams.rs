//! `spool streams`: what NATS holds against what the code says, as admin.

use serde_json::json;
use spool_nats::server::ADMIN;
use spool_nats::{Log, provision};

use crate::cli::Streams;
use crate::client::Out;
use crate::config::{self, Config};
use crate::exit::{Exit, Failure};
use crate::serve;

/// Runs the command.
pub(crate) async fn run(out: Out, command: &Streams) -> Result<(), Failure> {
    match command {
        Streams::Check(file) => {
            let (config, admin) = admin(file.config.as_deref()).await?;
            check(out, &config, &admin).await
        }
        Streams::Apply(file) => {
            let (config, admin) = admin(file.config.as_deref()).await?;
            provision::apply(&admin, &serve::shape(&config))
                .await
                .map_err(|error| Failure::from_error(Exit::Broken, "apply the streams", error))?;
            out.say(&json!({"applied": true}), || "streams, buckets and consumers are as they should be".to_owned());
            Ok(())
        }
    }
}

async fn admin(file: Option<&std::path::Path>) -> Result<(Config, Log), Failure> {
    let config = config::load(file)?;
    let target = serve::target(&config, ADMIN)?;
    let admin = Log::connect_or_tell(&target).await.map_err(|error| serve::unconnected(&target, error))?;
    Ok((config, admin))
}

async fn check(out: Out, config: &Config, admin: &Log) -> Result<(), Failure> {
    let differences = provision::check(admin, &serve::shape(config))
        .await
        .map_err(|error| Failure::from_error(Exit::Broken, "look at the streams", error))?;
    for one in &differences {
        let object = json!({"what": one.what, "field": one.field, "expected": one.expected, "actual": one.actual});
        out.say(&object, || match one.field.as_str() {
            "" => format!("{} is missing", one.what),
            field => format!("{}: {field} is {}, should be {}", one.what, one.actual, one.expected),
        });
    }
    if differences.is_empty() {
        out.say(&json!({"differences": 0}), || "streams, buckets and consumers are as they should be".to_owned());
        return Ok(());
    }
    let sentence = format!("{} differences; `spool streams apply` removes what can be removed", differences.len());
    Err(Failure::new(Exit::Different, sentence))
}
