//! Doubles that make vectors: a model whose name begins with `embed` makes them, with the fault that follows.

use types::{ability::EmbeddingAbility, inference::Prompt};

use super::*;

pub(super) const EMBED: &str = "embed";

/// `embed-any` makes them of any dimension, and every other model of its own only.
pub(super) fn abilities(alias: &str) -> Abilities {
    let embeddings = match alias {
        "embed-any" => EmbeddingAbility::Sized,
        _ => EmbeddingAbility::Fixed,
    };
    Abilities { completions: false, embeddings, ..Abilities::default() }
}

impl Request {
    /// What is charged: of vectors only the prompt.
    pub(super) fn price(&self) -> Price {
        match self.open.request.prompt {
            Prompt::Chat(_) | Prompt::Text(_) => PRICE,
            Prompt::Inputs(_) => Price { completion_nusd_per_mtok: Nusd::ZERO, ..PRICE },
        }
    }

    /// A vector of each text: its length, its place, and as many halves as it takes.
    fn vectors(&self) -> Vec<Vec<f32>> {
        let Prompt::Inputs(inputs) = &self.open.request.prompt else { return vec![vec![0.5; 3]] };
        let dimensions = usize::try_from(inputs.dimensions.unwrap_or(3)).unwrap();
        let vector = |(place, text): (usize, &String)| {
            let number = |it: usize| f32::from(u16::try_from(it).unwrap());
            let mut vector = vec![number(text.len()), number(place)];
            vector.resize(dimensions, 0.5);
            vector
        };
        inputs.texts.iter().enumerate().map(vector).collect()
    }

    async fn vector(&mut self, vector: &[f32]) {
        let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
        let piece = TokenPiece { span: Span::Vector, bytes, ..TokenPiece::default() };
        self.pieces(vec![piece]).await;
    }

    pub(super) async fn embed(
        &mut self,
        fault: &str,
        heard: &mut tokio::sync::mpsc::UnboundedReceiver<Heard>,
    ) {
        assert_eq!(self.open.order.value.price, self.price(), "what the gateway orders at");
        self.accept().await;
        let mut vectors = self.vectors();
        let last = vectors.len() - 1;
        match fault {
            "-few" => vectors.truncate(last),
            "-many" => vectors.push(vectors[0].clone()),
            "-nan" => vectors[last][0] = f32::NAN,
            "-infinite" => vectors[last][0] = f32::NEG_INFINITY,
            "-uneven" => vectors[last].push(1.0),
            "-flat" => vectors.iter_mut().for_each(Vec::clear),
            "-wide" => vectors.iter_mut().for_each(|vector| vector.resize(8_193, 0.5)),
            "-writes" => return self.tokens(&[b"Once"]).await,
            _ => {}
        }
        for (sent, vector) in vectors.iter().enumerate() {
            match (fault, sent) {
                ("-dies", 1) => {
                    let _ = self.send.shutdown().await;
                    return;
                }
                ("-waits", 1) => {
                    while !matches!(heard.recv().await, Some(Heard::Cancel) | None) {}
                    return self.finish(FinishReason::Cancelled).await;
                }
                _ => self.vector(vector).await,
            }
        }
        self.finish(FinishReason::Stop).await;
    }
}
