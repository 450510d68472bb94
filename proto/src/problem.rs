//! Problem codes: what can go wrong, as the outside knows it. Stable: a code never changes its meaning.
//!
//! Each code has an HTTP status, whose fault it is, whether trying again can help, a title, a sentence and an advice for
//! people, and a page `proto/errors/{code}.md`. Sentences are made here when read, from the code and typed values; facts
//! hold only those.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::event::Problem;

/// Whose fault a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The bytes that were sent.
    Input,
    /// Spool or what it stands on.
    System,
    /// Where something was to be delivered.
    Destination,
    /// The request or the configuration.
    Config,
}

/// Can trying again help?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// The same again gives the same.
    Never,
    /// It may be tried again at once.
    AtOnce,
    /// It may be tried again later.
    AfterWait,
}

/// One line of the table of codes.
struct Row {
    name: &'static str,
    status: u16,
    fault: Fault,
    retry: Retry,
    title: &'static str,
    sentence: &'static str,
    advice: &'static str,
}

/// A problem code. Alphabetical; the text (`snake_case`) is what is stored and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The asset is still being worked on.
    AssetBusy,
    /// The asset was deleted.
    AssetDeleted,
    /// No such asset.
    AssetNotFound,
    /// The request's body is not understood.
    BodyInvalid,
    /// The request's body is too large.
    BodyTooLarge,
    /// Decoding takes too much computing time.
    ChildCpu,
    /// The decoder crashes on this file.
    ChildCrashed,
    /// Something outside ended the decoder.
    ChildKilled,
    /// Decoding takes too much memory.
    ChildMemory,
    /// The decoder hangs on this file.
    ChildStalled,
    /// The machine left the decoder no computing time.
    ChildStarved,
    /// The body's content type is not the one asked for.
    ContentTypeUnsupported,
    /// A step took longer than it may.
    DeadlinePassed,
    /// A header is missing or not understood.
    HeaderInvalid,
    /// The idempotency key was used for another request.
    IdempotencyConflict,
    /// The ingest message is not understood.
    IngestInvalid,
    /// The ingest message has no natural key.
    IngestKeyMissing,
    /// Something broke on our side.
    Internal,
    /// A limit is reached.
    LimitReached,
    /// That method is not for this address.
    MethodNotAllowed,
    /// There is nothing to retry.
    NotRetryable,
    /// The offset is not where the upload stands.
    OffsetConflict,
    /// Another attempt took over.
    OrderSuperseded,
    /// No such parked message.
    ParkedNotFound,
    /// The path is not allowed.
    PathNotAllowed,
    /// The path is not a plain file.
    PathNotFile,
    /// There is no such file.
    PathNotFound,
    /// Nothing to play here.
    PlaybackNotFound,
    /// There is no such profile.
    ProfileUnknown,
    /// A value in the address is not understood.
    QueryInvalid,
    /// The range lies outside the object.
    RangeNotSatisfiable,
    /// Too many requests.
    RateLimited,
    /// What this message was for is over.
    ReleaseOver,
    /// Without tokens, a request that a page or a name of somebody else leads to.
    RequestForeign,
    /// This process does not serve that.
    RoleAbsent,
    /// No such address.
    RouteNotFound,
    /// The video uses a codec that Spool can't decode.
    SourceCodecUnsupported,
    /// The file's format is not supported.
    SourceContainerUnsupported,
    /// The file is damaged at its head or index.
    SourceCorrupt,
    /// The file is damaged further in.
    SourceDamaged,
    /// The file is empty.
    SourceEmpty,
    /// The file is encrypted.
    SourceEncrypted,
    /// The file was cut off before its index.
    SourceIndexMissing,
    /// The file holds no picture or sound.
    SourceNoSamples,
    /// The file has neither picture nor sound.
    SourceNoStreams,
    /// The file is not a video.
    SourceNotMedia,
    /// The picture is larger than Spool takes.
    SourcePictureTooLarge,
    /// The file is a still picture.
    SourceStillImage,
    /// The video is longer than Spool takes.
    SourceTooLong,
    /// Nothing in the file can be decoded.
    SourceUndecodable,
    /// The source could not be read.
    SourceUnreadable,
    /// The store is full.
    StoreFull,
    /// The store does not answer.
    StoreUnavailable,
    /// Parts were made by different toolchains.
    ToolchainChanged,
    /// Only tus 1.0.0 is spoken here.
    TusVersion,
    /// A token is needed.
    Unauthorized,
    /// A part of Spool does not answer.
    Unavailable,
    /// The upload was cancelled.
    UploadCancelled,
    /// The bytes are not the announced ones.
    UploadDigestMismatch,
    /// The upload took too long.
    UploadExpired,
    /// The upload's length was already said.
    UploadLengthConflict,
    /// No such upload.
    UploadNotFound,
    /// More bytes than announced.
    UploadOverrun,
    /// Another request took the upload over.
    UploadSuperseded,
    /// The upload is larger than allowed.
    UploadTooLarge,
    /// The request was too slow.
    UploadTooSlow,
    /// The view is not there yet.
    ViewBehind,
    /// The workers died on this job.
    WorkerLost,
    /// A worker that was told to stop handed this job back.
    WorkerStopped,
}

impl Code {
    /// Every code, alphabetical.
    pub const ALL: &'static [Code] = &[
        Code::AssetBusy,
        Code::AssetDeleted,
        Code::AssetNotFound,
        Code::BodyInvalid,
        Code::BodyTooLarge,
        Code::ChildCpu,
        Code::ChildCrashed,
        Code::ChildKilled,
        Code::ChildMemory,
        Code::ChildStalled,
        Code::ChildStarved,
        Code::ContentTypeUnsupported,
        Code::DeadlinePassed,
        Code::HeaderInvalid,
        Code::IdempotencyConflict,
        Code::IngestInvalid,
        Code::IngestKeyMissing,
        Code::Internal,
        Code::LimitReached,
        Code::MethodNotAllowed,
        Code::NotRetryable,
        Code::OffsetConflict,
        Code::OrderSuperseded,
        Code::ParkedNotFound,
        Code::PathNotAllowed,
        Code::PathNotFile,
        Code::PathNotFound,
        Code::PlaybackNotFound,
        Code::ProfileUnknown,
        Code::QueryInvalid,
        Code::RangeNotSatisfiable,
        Code::RateLimited,
        Code::ReleaseOver,
        Code::RequestForeign,
        Code::RoleAbsent,
        Code::RouteNotFound,
        Code::SourceCodecUnsupported,
        Code::SourceContainerUnsupported,
        Code::SourceCorrupt,
        Code::SourceDamaged,
        Code::SourceEmpty,
        Code::SourceEncrypted,
        Code::SourceIndexMissing,
        Code::SourceNoSamples,
        Code::SourceNoStreams,
        Code::SourceNotMedia,
        Code::SourcePictureTooLarge,
        Code::SourceStillImage,
        Code::SourceTooLong,
        Code::SourceUndecodable,
        Code::SourceUnreadable,
        Code::StoreFull,
        Code::StoreUnavailable,
        Code::ToolchainChanged,
        Code::TusVersion,
        Code::Unauthorized,
        Code::Unavailable,
        Code::UploadCancelled,
        Code::UploadDigestMismatch,
        Code::UploadExpired,
        Code::UploadLengthConflict,
        Code::UploadNotFound,
        Code::UploadOverrun,
        Code::UploadSuperseded,
        Code::UploadTooLarge,
        Code::UploadTooSlow,
        Code::ViewBehind,
        Code::WorkerLost,
        Code::WorkerStopped,
    ];

    #[expect(clippy::too_many_lines, reason = "a flat table is honestly long")]
    fn row(self) -> Row {
        use Fault::{Config, Input, System};
        use Retry::{AfterWait, AtOnce, Never};
        let row = |name, status, fault, retry, title, sentence, advice| Row {
            name,
            status,
            fault,
            retry,
            title,
            sentence,
            advice,
        };
        match self {
            Code::AssetBusy => row(
                "asset_busy",
                409,
                Config,
                AfterWait,
                "The asset is still being worked on",
                "Asset {asset} is {status}; a retry needs a state that has ended.",
                "Wait until it has failed, was rejected or is ready, or look at `spool explain`.",
            ),
            Code::AssetDeleted => row(
                "asset_deleted",
                410,
                Config,
                Never,
                "The asset was deleted",
                "Asset {asset} was deleted.",
                "Upload the video again if you need it.",
            ),
            Code::AssetNotFound => row(
                "asset_not_found",
                404,
                Config,
                Never,
                "No such asset",
                "There is no asset {asset}.",
                "Check the id; `spool ls` lists what there is.",
            ),
            Code::BodyInvalid => row(
                "body_invalid",
                400,
                Config,
                Never,
                "The request's body is not understood",
                "The body can't be read: {detail}.",
                "Correct the body and send it again.",
            ),
            Code::BodyTooLarge => row(
                "body_too_large",
                413,
                Config,
                Never,
                "The request's body is too large",
                "The body has more than {limit_bytes} bytes.",
                "Send a smaller body.",
            ),
            Code::ChildCpu => row(
                "child_cpu",
                500,
                Input,
                Never,
                "Decoding takes too much computing time",
                "Working on this video took more than {limit} of computing time.",
                "The file may be made to exhaust a decoder; export it again from the program that made it.",
            ),
            Code::ChildCrashed => row(
                "child_crashed",
                500,
                Input,
                Never,
                "The decoder crashes on this file",
                "The decoder crashed {attempts} times on this video.",
                "Export the video again from the program that made it, or send it to us as a bug.",
            ),
            Code::ChildKilled => row(
                "child_killed",
                500,
                System,
                AfterWait,
                "Something outside ended the decoder",
                "The decoder was ended from outside {attempts} times: by the machine, when its memory was used up, or by somebody.",
                "Try again later; the operator finds in the machine's own log whether it ran out of memory.",
            ),
            Code::ChildMemory => row(
                "child_memory",
                500,
                Input,
                Never,
                "Decoding takes too much memory",
                "Working on this video took more than {limit} of memory.",
                "Export the video in a smaller size.",
            ),
            Code::ChildStalled => row(
                "child_stalled",
                500,
                Input,
                Never,
                "The decoder hangs on this file",
                "Nothing came out of the decoder for {limit}, {attempts} times.",
                "Export the video again from the program that made it.",
            ),
            Code::ChildStarved => row(
                "child_starved",
                500,
                System,
                AfterWait,
                "The machine left the decoder no computing time",
                "The decoder hardly got any computing time for {limit}, {attempts} times: the machine has too much to do.",
                "Try again when the machine has less to do, or give Spool more of it.",
            ),
            Code::ContentTypeUnsupported => row(
                "content_type_unsupported",
                415,
                Config,
                Never,
                "The body's content type is not the one asked for",
                "The body is of type {value}, not {expected}.",
                "Send Content-Type: {expected}.",
            ),
            Code::DeadlinePassed => row(
                "deadline_passed",
                500,
                System,
                AtOnce,
                "A step took longer than it may",
                "{step} did not end within {limit}.",
                "Retry it; look at `spool explain` if it happens again.",
            ),
            Code::HeaderInvalid => row(
                "header_invalid",
                400,
                Config,
                Never,
                "A header is missing or not understood",
                "The header {header} {reason}; got {value}.",
                "Correct the header and send the request again.",
            ),
            Code::IdempotencyConflict => row(
                "idempotency_conflict",
                409,
                Config,
                Never,
                "The idempotency key was used for another request",
                "The key {key} belongs to a request with another content.",
                "Use a new key for a new request.",
            ),
            Code::IngestInvalid => row(
                "ingest_invalid",
                400,
                Config,
                Never,
                "The ingest message is not understood",
                "The message can't be read: {detail}.",
                "Correct the message and publish it under a new id.",
            ),
            Code::IngestKeyMissing => row(
                "ingest_key_missing",
                400,
                Config,
                Never,
                "The ingest message has no natural key",
                "The message has neither Nats-Msg-Id nor a field id.",
                "Give it one, so that a repeat registers nothing new.",
            ),
            Code::Internal => row(
                "internal",
                500,
                System,
                AtOnce,
                "Something broke on our side",
                "The request could not be carried out.",
                "Try again; the operator finds the cause in the log under {trace}.",
            ),
            Code::LimitReached => row(
                "limit_reached",
                429,
                Config,
                AfterWait,
                "A limit is reached",
                "There are already {count} {what}; at most {limit} are allowed.",
                "Wait until some have ended, then try again.",
            ),
            Code::MethodNotAllowed => row(
                "method_not_allowed",
                405,
                Config,
                Never,
                "That method is not for this address",
                "{method} is not possible here.",
                "Use one of: {allow}.",
            ),
            Code::NotRetryable => row(
                "not_retryable",
                409,
                Config,
                Never,
                "There is nothing to retry",
                "Asset {asset} is {status}.",
                "Only failed and rejected assets can be retried.",
            ),
            Code::OffsetConflict => row(
                "offset_conflict",
                409,
                Config,
                AtOnce,
                "The offset is not where the upload stands",
                "The upload stands at {offset}, not at {value}.",
                "Ask for the offset with HEAD and go on from there.",
            ),
            Code::OrderSuperseded => row(
                "order_superseded",
                500,
                System,
                AtOnce,
                "Another attempt took over",
                "Another attempt of {item} took over.",
                "Nothing to do.",
            ),
            Code::ParkedNotFound => row(
                "parked_not_found",
                404,
                Config,
                Never,
                "No such parked message",
                "There is no parked message {id}.",
                "`spool parked ls` lists what there is.",
            ),
            Code::PathNotAllowed => row(
                "path_not_allowed",
                403,
                Config,
                Never,
                "The path is not allowed",
                "The path {path} does not lie under an allowed root.",
                "Put the file under an allowed root, or add a root to `gateway.roots`.",
            ),
            Code::PathNotFile => row(
                "path_not_file",
                400,
                Config,
                Never,
                "The path is not a plain file",
                "The path {path} is {found}, not a plain file.",
                "Name a plain file.",
            ),
            Code::PathNotFound => row(
                "path_not_found",
                404,
                Config,
                Never,
                "There is no such file",
                "There is no file at {path}.",
                "Check the path.",
            ),
            Code::PlaybackNotFound => row(
                "playback_not_found",
                404,
                Config,
                Never,
                "Nothing to play here",
                "There is nothing to play at this address.",
                "Check the address; an asset plays once it is playable.",
            ),
            Code::ProfileUnknown => row(
                "profile_unknown",
                400,
                Config,
                Never,
                "There is no such profile",
                "There is no profile {profile}.",
                "Use one of: {known}.",
            ),
            Code::QueryInvalid => row(
                "query_invalid",
                400,
                Config,
                Never,
                "A value in the address is not understood",
                "The value {value} of {name} is not {form}.",
                "Correct the address.",
            ),
            Code::RangeNotSatisfiable => row(
                "range_not_satisfiable",
                416,
                Config,
                Never,
                "The range lies outside the object",
                "The range {value} lies outside {size} bytes.",
                "Ask for a range inside it.",
            ),
            Code::RateLimited => row(
                "rate_limited",
                429,
                Config,
                AfterWait,
                "Too many requests",
                "More than {limit} requests came in a short time.",
                "Wait {retry_after} and try again.",
            ),
            Code::ReleaseOver => row(
                "release_over",
                409,
                Config,
                Never,
                "What this message was for is over",
                "{item} belongs to something that has ended.",
                "Use `spool retry {asset}`: it starts what is missing again.",
            ),
            Code::RequestForeign => row(
                "request_foreign",
                403,
                Config,
                Never,
                "Asked from or under a foreign name",
                "The header {header} says {value}, and where no tokens are configured only {accepted} are answered.",
                "Use http://127.0.0.1 or http://localhost with the port, or set `tokens` in the configuration and send one as \
                 Authorization: Bearer.",
            ),
            Code::RoleAbsent => row(
                "role_absent",
                503,
                Config,
                AfterWait,
                "This process does not serve that",
                "Role {role} does not run in this process.",
                "Ask a process that runs it, or start it with `spool run {role}`.",
            ),
            Code::RouteNotFound => row(
                "route_not_found",
                404,
                Config,
                Never,
                "No such address",
                "There is nothing at {path}.",
                "See the README for the routes.",
            ),
            Code::SourceCodecUnsupported => row(
                "source_codec_unsupported",
                422,
                Input,
                Never,
                "The video uses a codec that Spool can't decode",
                "The {kind} uses {codec}, which Spool can't decode.",
                "Export it as H.264, HEVC, VP9, AV1 or ProRes with AAC, MP3, Opus or PCM sound.",
            ),
            Code::SourceContainerUnsupported => row(
                "source_container_unsupported",
                422,
                Input,
                Never,
                "The file's format is not supported",
                "The file is {found}.",
                "Upload an MP4, MOV, MKV, WebM, TS, MPG, AVI, FLV, OGV or WMV file.",
            ),
            Code::SourceCorrupt => row(
                "source_corrupt",
                422,
                Input,
                Never,
                "The file is damaged at its head or index",
                "The file's {part} is damaged.",
                "Copy the file again from its origin; if it is damaged there too, repair or export it anew.",
            ),
            Code::SourceDamaged => row(
                "source_damaged",
                422,
                Input,
                Never,
                "The file is damaged further in",
                "Only {got} of {expected} could be decoded.",
                "Copy the file again from its origin; the upload itself was complete.",
            ),
            Code::SourceEmpty => row(
                "source_empty",
                422,
                Input,
                Never,
                "The file is empty",
                "The file has 0 bytes.",
                "Upload the right file.",
            ),
            Code::SourceEncrypted => row(
                "source_encrypted",
                422,
                Input,
                Never,
                "The file is encrypted",
                "The {kind} is encrypted ({found}).",
                "Upload a file without copy protection.",
            ),
            Code::SourceIndexMissing => row(
                "source_index_missing",
                422,
                Input,
                Never,
                "The file was cut off before its index",
                "The file ends before its index ({part}), as recordings do that were not closed.",
                "Close the recording properly, or repair the file, and upload it again.",
            ),
            Code::SourceNoSamples => row(
                "source_no_samples",
                422,
                Input,
                Never,
                "The file holds no picture or sound",
                "The file announces {expected} but holds no samples that would be shown.",
                "Upload the whole file, not its header or index alone; if players show nothing of it either, export it again.",
            ),
            Code::SourceNoStreams => row(
                "source_no_streams",
                422,
                Input,
                Never,
                "The file has neither picture nor sound",
                "The file is {found} without a picture or sound track.",
                "Upload a file with video or audio.",
            ),
            Code::SourceNotMedia => row(
                "source_not_media",
                422,
                Input,
                Never,
                "The file is not a video",
                "The file is {found}.",
                "Upload a video file.",
            ),
            Code::SourcePictureTooLarge => row(
                "source_picture_too_large",
                422,
                Input,
                Never,
                "The picture is larger than Spool takes",
                "The picture has {width}x{height} pixels; at most {limit} are taken.",
                "Export it in a smaller size.",
            ),
            Code::SourceStillImage => row(
                "source_still_image",
                422,
                Input,
                Never,
                "The file is a picture",
                "The file is a picture ({found}) and no video.",
                "Upload a video.",
            ),
            Code::SourceTooLong => row(
                "source_too_long",
                422,
                Input,
                Never,
                "The video is longer than Spool takes",
                "The video lasts {duration}; at most {limit} is taken.",
                "Cut it into parts.",
            ),
            Code::SourceUndecodable => row(
                "source_undecodable",
                422,
                Input,
                Never,
                "Nothing in the file can be decoded",
                "The {kind} ({codec}) could not be decoded.",
                "Export the video again from the program that made it.",
            ),
            Code::SourceUnreadable => row(
                "source_unreadable",
                500,
                Input,
                Never,
                "The source could not be read",
                "Reading the source failed: {detail}.",
                "Check the file and send it again.",
            ),
            Code::StoreFull => row(
                "store_full",
                507,
                System,
                AfterWait,
                "The store is full",
                "The store takes no more bytes.",
                "Free space or enlarge the store; running uploads can go on after that.",
            ),
            Code::StoreUnavailable => row(
                "store_unavailable",
                503,
                System,
                AfterWait,
                "The store does not answer",
                "The object store did not give what was asked of it.",
                "Try again later.",
            ),
            Code::ToolchainChanged => row(
                "toolchain_changed",
                500,
                System,
                AtOnce,
                "Parts were made by different toolchains",
                "Chunks of {rendition} don't join: their init sections differ.",
                "Retry the asset: a new generation is made by one toolchain.",
            ),
            Code::TusVersion => row(
                "tus_version",
                412,
                Config,
                Never,
                "Only tus 1.0.0 is spoken here",
                "Tus-Resumable is {value}.",
                "Send Tus-Resumable: 1.0.0.",
            ),
            Code::Unauthorized => row(
                "unauthorized",
                401,
                Config,
                Never,
                "A token is needed",
                "The request has no valid token.",
                "Send Authorization: Bearer with a token of the configuration.",
            ),
            Code::Unavailable => row(
                "unavailable",
                503,
                System,
                AfterWait,
                "A part of Spool does not answer",
                "{what} is not available at the moment.",
                "Try again.",
            ),
            Code::UploadCancelled => row(
                "upload_cancelled",
                410,
                Config,
                Never,
                "The upload was cancelled",
                "The upload was cancelled by the client.",
                "Start a new upload.",
            ),
            Code::UploadDigestMismatch => row(
                "upload_digest_mismatch",
                422,
                Input,
                Never,
                "The bytes are not the announced ones",
                "The SHA-256 of what arrived is {got}, announced was {expected}.",
                "Send the file again.",
            ),
            Code::UploadExpired => row(
                "upload_expired",
                410,
                Config,
                Never,
                "The upload took too long",
                "Nothing arrived for {limit}.",
                "Start a new upload.",
            ),
            Code::UploadLengthConflict => row(
                "upload_length_conflict",
                400,
                Config,
                Never,
                "The upload's length was already said",
                "The length is {value}, but {known} was said before.",
                "Keep to one length.",
            ),
            Code::UploadNotFound => row(
                "upload_not_found",
                404,
                Config,
                Never,
                "No such upload",
                "There is no upload at this address.",
                "Start a new upload.",
            ),
            Code::UploadOverrun => row(
                "upload_overrun",
                413,
                Config,
                Never,
                "More bytes than announced",
                "The request brings bytes past the announced length {length}.",
                "Send just what is missing.",
            ),
            Code::UploadSuperseded => row(
                "upload_superseded",
                409,
                Config,
                AtOnce,
                "Another request took the upload over",
                "A newer request for this upload took over.",
                "Ask for the offset with HEAD and go on from there.",
            ),
            Code::UploadTooLarge => row(
                "upload_too_large",
                413,
                Config,
                Never,
                "The upload is larger than allowed",
                "The upload has {size_bytes} bytes; at most {limit_bytes} are allowed.",
                "Ask the operator to raise `gateway.max_upload`, or send a smaller file.",
            ),
            Code::UploadTooSlow => row(
                "upload_too_slow",
                503,
                Config,
                AtOnce,
                "The request was too slow",
                "The request brought {size_bytes} bytes in {limit}, too few to keep its place; what came is stored.",
                "Ask for the offset with HEAD and go on from there.",
            ),
            Code::ViewBehind => row(
                "view_behind",
                503,
                System,
                AfterWait,
                "The view is not there yet",
                "The view stands at {position}, asked was at least {wanted}.",
                "Try again in a moment.",
            ),
            Code::WorkerLost => row(
                "worker_lost",
                500,
                System,
                AtOnce,
                "The workers died on this job",
                "{attempts} workers took {item} and none came back.",
                "Retry it; look at the workers' logs if it happens again.",
            ),
            Code::WorkerStopped => row(
                "worker_stopped",
                503,
                System,
                AtOnce,
                "A worker was stopped",
                "The worker on {item} was told to stop and handed it back.",
                "Nothing: another worker goes on where it stopped, and no attempt is used up.",
            ),
        }
    }

    /// The code as text: `source_empty`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// HTTP status when it is the answer to a request.
    pub fn status(self) -> u16 {
        self.row().status
    }

    /// Whose fault it is.
    pub fn fault(self) -> Fault {
        self.row().fault
    }

    /// Can trying again help?
    pub fn retry(self) -> Retry {
        self.row().retry
    }

    /// A short title, the same for every occurrence.
    pub fn title(self) -> &'static str {
        self.row().title
    }

    /// What to do next.
    pub fn advice(self) -> &'static str {
        self.row().advice
    }

    /// The sentence with its values still as `{name}`.
    pub fn sentence(self) -> &'static str {
        self.row().sentence
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Text that is no code of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no problem code")]
pub struct CodeError(String);

impl FromStr for Code {
    type Err = CodeError;
    fn from_str(text: &str) -> Result<Self, CodeError> {
        Code::ALL.iter().copied().find(|code| code.name() == text).ok_or_else(|| CodeError(text.to_owned()))
    }
}

/// Puts values into a template; a value that is missing reads as "an unknown {name}".
fn fill(template: &str, params: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            out.push('{');
            rest = after;
            continue;
        };
        match params.get(name) {
            Some(value) => out.push_str(value),
            None => out.push_str(&format!("an unknown {}", name.replace('_', " "))),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

impl Problem {
    /// One or two sentences for a person: what was wrong, with which value, and what to do next.
    pub fn detail(&self) -> String {
        format!("{} {}", fill(self.code.sentence(), &self.params), fill(self.code.advice(), &self.params))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_alphabetical_and_round_trip() {
        assert!(Code::ALL.windows(2).all(|pair| pair[0].name() < pair[1].name()));
        for code in Code::ALL {
            assert_eq!(code.name().parse::<Code>(), Ok(*code));
            assert_eq!(serde_json::to_value(code).expect("json"), serde_json::json!(code.name()));
        }
    }

    #[test]
    fn every_code_has_a_page() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("errors");
        for code in Code::ALL {
            let page = std::fs::read_to_string(root.join(format!("{code}.md"))).unwrap_or_default();
            assert!(
                page.contains(code.title()),
                "proto/errors/{code}.md is missing or does not open with the title {:?}",
                code.title()
            );
        }
    }

    #[test]
    fn a_sentence_names_its_values_and_says_what_to_do() {
        let problem = Problem::new(Code::UploadTooLarge).with("size_bytes", 9).with("limit_bytes", 5);
        assert_eq!(
            problem.detail(),
            "The upload has 9 bytes; at most 5 are allowed. Ask the operator to raise `gateway.max_upload`, or send a smaller file."
        );
        assert!(Problem::new(Code::SourceStillImage).detail().contains("an unknown found"));
    }
}
