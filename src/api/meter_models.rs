//! `/meter-models`: the catalogue.

use super::ApiState;
use super::page::{Page, PageRequest};
use super::problem::ApiError;
use super::query::Query;
use crate::port::meter_models::ModelView;
use actix_web::{HttpResponse, get, web};
use serde::Deserialize;
use utoipa_actix_web::service_config::ServiceConfig;

const LIST: &str = "meter-models";

/// Which models.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ModelQuery {
    /// In name, vendor or the maker's name, without regard to case.
    text: Option<String>,
    /// Readable by this protocol.
    protocol: Option<String>,
    /// Items of a page, 1 to 1000; default 100.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// The meter models that this server knows.
#[utoipa::path(tag = "meter models", params(ModelQuery), responses((status = 200, body = Page<ModelView>)))]
#[get("/meter-models")]
async fn list_meter_models(
    state: web::Data<ApiState>,
    Query(query): Query<ModelQuery>,
) -> Result<HttpResponse, ApiError> {
    let request = PageRequest::<String>::new(LIST, query.limit, query.cursor.as_deref())?;
    let text = query.text.map(|text| text.to_lowercase());
    let found: Vec<ModelView> = state
        .models
        .models()
        .into_iter()
        .filter(|model| {
            let heard = |field: &str| text.as_deref().is_none_or(|text| field.to_lowercase().contains(text));
            (heard(&model.name) || heard(&model.vendor) || heard(&model.model))
                && query
                    .protocol
                    .as_deref()
                    .is_none_or(|wanted| model.protocols.contains(&wanted))
        })
        .collect();
    let total = found.len() as u64;
    let rows = found
        .into_iter()
        .filter(|model| request.after.as_ref().is_none_or(|after| model.name > *after))
        .take(request.fetch() as usize)
        .collect();
    Ok(HttpResponse::Ok().json(
        request
            .page(rows, |model: &ModelView| model.name.clone())
            .of_total(total),
    ))
}

/// A meter model with its points.
#[utoipa::path(tag = "meter models", params(("name" = String, Path)), responses((status = 200, body = ModelView)))]
#[get("/meter-models/{name}")]
async fn get_meter_model(state: web::Data<ApiState>, name: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let model = state
        .models
        .model(&name)
        .ok_or_else(|| ApiError::not_found("meter model"))?;
    Ok(HttpResponse::Ok().json(model))
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list_meter_models).service(get_meter_model);
}
